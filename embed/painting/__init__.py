"""Pictures from prompts (Figure 4): pixels or latents moved until a backbone finds them near a text."""

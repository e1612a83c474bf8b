"""What goes wrong in a fine-tuning."""


class FinetuneError(Exception):
    """Fine-tuning cannot be done as asked, or went wrong; the message says what to do."""

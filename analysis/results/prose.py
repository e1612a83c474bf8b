"""Text made from numbers: a paragraph for a paper's section on methods, and whom to cite."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.results.markup import literal
from analysis.results.methods import MethodResult
from analysis.results.names import name_backbone


@dataclass(frozen=True)
class Prose:
    """Markdown with a name for its files (ending: content)."""

    name: str
    text: str
    files: dict[str, str] = field(default_factory=dict)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"text/markdown": self.text, "text/plain": self.text}, {
            "iaa": {"kind": "text", "name": self.name, "files": self.files}
        }


BIBTEX = {
    "paper": """@article{hentschel2022clip,
  author  = {Hentschel, Simon and Kobs, Konstantin and Hotho, Andreas},
  title   = {{CLIP} knows image aesthetics},
  journal = {Frontiers in Artificial Intelligence},
  volume  = {5},
  pages   = {976235},
  year    = {2022},
  doi     = {10.3389/frai.2022.976235}
}""",
    "software": """@software{image_aesthetics_store,
  title   = {image-aesthetics-store: a verified embedding store for image aesthetics},
  author  = {{The image-aesthetics-store maintainers}},
  version = {VERSION}
}""",
    "clip": """@inproceedings{radford2021clip,
  author    = {Radford, Alec and Kim, Jong Wook and Hallacy, Chris and others},
  title     = {Learning Transferable Visual Models From Natural Language Supervision},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning},
  year      = {2021}
}""",
    "ava": """@inproceedings{murray2012ava,
  author    = {Murray, Naila and Marchesotti, Luca and Perronnin, Florent},
  title     = {{AVA}: A large-scale database for aesthetic visual analysis},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year      = {2012}
}""",
    "nima": """@article{talebi2018nima,
  author  = {Talebi, Hossein and Milanfar, Peyman},
  title   = {{NIMA}: Neural Image Assessment},
  journal = {IEEE Transactions on Image Processing},
  year    = {2018}
}""",
    "mlsp": """@inproceedings{hosu2019effective,
  author    = {Hosu, Vlad and Goldl{\\"u}cke, Bastian and Saupe, Dietmar},
  title     = {Effective Aesthetics Prediction with Multi-level Spatially Pooled Features},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  pages     = {9375--9383},
  year      = {2019}
}""",
}
"""Whom to cite, by what was used."""


def write_methods(
    results: Sequence[MethodResult],
    seed: int,
    n_boot: int,
    threshold: float,
    digests: Sequence[str],
    version: str,
) -> Prose:
    """The paragraph, in the first person plural of papers, from what was run; and its references."""
    first = next(r for r in results if r.n_test)
    backbones = list(dict.fromkeys(name_backbone(r.backbone) for r in results if r.backbone))
    keys = {r.key.partition(".")[0] for r in results}
    any_wide = any(r.key == "stacked.wide" for r in results)
    parts = [
        f"We used the photographs of {first.dataset} with the split *{first.split_name}* "
        f"({first.n_train:,} for training, "
        f"{first.n_test:,} for testing); a photograph counts as high if its mean rating lies "
        f"strictly above {threshold:g}. "
        f"Features came from frozen backbones ({', '.join(backbones)}) and were stored as "
        "float32 with their digests."
    ]
    if "prompting" in keys:
        parts.append(
            "For zero-shot prompting, all 27 × 12 pairs of labels of Hentschel et al. (2022) "
            "were tried on the training "
            "photographs, and the best pair per task was measured on the test photographs."
        )
    if "probe" in keys:
        parts.append(
            "Linear probes were fitted on standardised features, by least squares and by "
            "ridge regression, whose penalty was "
            "chosen on the training photographs alone (exact leave-one-out up to 5,000 of "
            "them, otherwise five folds)."
        )
    if keys & {"finetune", "tuned"}:
        parts.append(
            "Backbones were fine-tuned with the EMD loss (r = 2); a tenth of the training "
            "photographs decided when to stop."
        )
    if "stacked" in keys:
        parts.append(
            "Heads of several layers were trained on stored features as in Hosu et al. (2019); a tenth of "
            "the training photographs decided when to stop."
            + (" Features of 5 x 5 cells were stored as float16." if any_wide else "")
        )
    parts.append(
        f"Intervals are 95 % percentile intervals over {n_boot:,} bootstrap resamples of the "
        f"test photographs (seed {seed}). "
        "Methods were compared on the same resamples, with as many as Holm's correction over "
        "the comparisons of a table needs."
    )
    parts.append(f"Digests (SHA-256, first 16 digits): {', '.join(d[:16] for d in digests)}.")
    paragraph = " ".join(literal(part).replace("&#42;", "*") for part in parts)
    used = ["paper", "software"]
    used += ["clip"] if any("CLIP" in b and "demo" not in b for b in backbones) else []
    used += ["ava"] if first.dataset == "ava" else []
    used += ["mlsp"] if "stacked" in keys else []
    used += ["nima"] if keys & {"finetune", "tuned", "nima"} else []
    bib = "\n\n".join(BIBTEX[name].replace("VERSION", version) for name in used) + "\n"
    return Prose("methods", paragraph, {".md": " ".join(parts) + "\n", ".bib": bib})

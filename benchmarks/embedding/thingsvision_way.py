"""thingsvision's own extraction, run by a Python that has it (it needs an older torch than this project).

    python thingsvision_way.py IMAGES N vit|tiny CONFIG OUT REPEATS

The first N files of a folder; ViT-B/32 of open_clip or the model of CONFIG (demo_vit), random weights. Prints
one line of JSON: seconds per repeat and versions.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import open_clip
import thingsvision
import timm
import torch
from thingsvision import get_extractor_from_model
from thingsvision.utils.data import DataLoader, ImageDataset
from thingsvision.utils.storing import save_features


class Named(torch.nn.Module):
    """A model whose output can be asked for by name."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.out = model, torch.nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The features."""
        return self.out(self.model(images))


def main() -> None:
    """Measure and print."""
    images, n, kind, config, out, repeats = sys.argv[1:]
    folder = Path(out) / "some"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in sorted(Path(images).glob("*.jpg"))[: int(n)]:
        (folder / file.name).hardlink_to(file)
    if kind == "vit":
        clip, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
        model = clip.visual
    else:
        settings = json.loads(Path(config).read_text(encoding="utf-8"))
        model = timm.create_model(settings["architecture"], **settings["model_args"] | {"num_classes": 0})
        transform = timm.data.create_transform(
            **timm.data.resolve_data_config(settings["pretrained_cfg"]), is_training=False
        )
    extractor = get_extractor_from_model(Named(model).eval(), device="cpu", backend="pt")
    seconds = []
    for _ in range(int(repeats)):
        started = time.perf_counter()
        dataset = ImageDataset(str(folder), out_path=out, backend="pt", transforms=transform)
        batches = DataLoader(dataset, batch_size=32, backend="pt")
        features = extractor.extract_features(batches, module_name="out", flatten_acts=True)
        save_features(features, out, "npy")
        seconds.append(time.perf_counter() - started)
        assert len(features) == int(n), features.shape
    versions = f"thingsvision {thingsvision.__version__}, torch {torch.__version__}"
    print(json.dumps({"seconds": seconds, "versions": versions}))


if __name__ == "__main__":
    main()

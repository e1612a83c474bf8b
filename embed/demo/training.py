"""Train the two demo backbones on another seed of the demo world and write their weights.

Run `python -m embed.demo.training` (or `make demo-weights`). `demo_clip` learns from captions, so
it keeps what people say about looks; `demo_vit`, with the same image tower, learns to tell subjects
apart under strong variation of looks, so it learns to see past them. The two are trained side by
side with one thread each, so the order of floating-point sums does not depend on the number of
cores. docs/demo-world.md records the run whose weights are shipped.
"""

import hashlib
import json
import logging
import math
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from timm.data.imagenet_info import ImageNetInfo
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn
from torch.nn import functional

from embed.demo.captions import FORMS, TONELESS, TONES, draw_caption
from embed.demo.scenes import SUBJECTS
from embed.demo.world import TRAINING_SEED, World, render_world

logger = logging.getLogger(__name__)

WEIGHTS_DIR = Path(__file__).parent / "weights"
N_TRAIN, N_VALIDATION = 10_000, 500
#: Captions are cut to this many tokens: the longest prompt of the paper's sets needs 18.
N_TOKENS = 20
BATCH_SIZE = 128
CLIP_STEPS, VIT_STEPS = 1600, 1400
PEAK_RATE = 1.5e-3
#: Share of an image's patches left out at a training step, which saves as much time.
CLIP_PATCH_DROPOUT, VIT_PATCH_DROPOUT = 0.35, 0.25
UNKNOWN = 0  # compact id of every token that no caption's own words contain


def read_config(name: str, folder: Path = WEIGHTS_DIR) -> dict[str, Any]:
    """The model config of a demo backbone, as its loader reads it."""
    config: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return config


def build_transform() -> Callable[[Image.Image], Tensor]:
    """open_clip's own transform for the config of demo_clip."""
    config = read_config("demo_clip")
    size = config["model_cfg"]["vision_cfg"]["image_size"]
    preprocess = PreprocessCfg(size=size, **config["preprocess_cfg"])
    transform: Callable[[Image.Image], Tensor] = image_transform_v2(preprocess, is_train=False)
    return transform


def load_pixels(world: World, folder: Path) -> Tensor:
    """All images of a world after the transform, float16 (n_images, 3, 64, 64)."""
    transform = build_transform()
    images = []
    for path in world.path:
        with Image.open(folder / str(path)) as image:
            images.append(transform(image).half())
    return torch.stack(images)


def training_world(folder: Path) -> tuple[World, Tensor]:
    """The world the backbones learn from, rendered into `folder`, and its pixels."""
    world = render_world(folder, N_TRAIN, N_VALIDATION, TRAINING_SEED)
    return world, load_pixels(world, folder)


def caption_vocabulary() -> list[int]:
    """Sorted token ids of everything captions can say of this world, start and end included."""
    texts = [form.format(adjective="great", subject="castle") for form in FORMS]
    texts += [*TONES, *TONELESS, *SUBJECTS]
    return sorted(set(open_clip.get_tokenizer("ViT-B-32")(texts).flatten().tolist()) - {0})


class CompactTokens:
    """Maps token ids to rows of a small table while training; the end token keeps the largest id.

    Row 0 stands for every word the world has no caption for and stays zero.
    """

    def __init__(self, vocabulary: list[int]) -> None:
        self.vocabulary = torch.tensor(vocabulary)

    def __call__(self, tokens: Tensor) -> Tensor:
        place = torch.searchsorted(self.vocabulary, tokens.contiguous()).clamp(max=len(self.vocabulary) - 1)
        return torch.where(self.vocabulary[place] == tokens, place + 1, UNKNOWN)

    def shrink(self, model: open_clip.CLIP) -> None:
        """Replace the model's token table by the rows that captions use."""
        width = model.token_embedding.embedding_dim
        table = nn.Embedding(len(self.vocabulary) + 1, width, padding_idx=UNKNOWN)
        nn.init.normal_(table.weight, std=0.02)
        with torch.no_grad():
            table.weight[UNKNOWN] = 0
        model.token_embedding = table

    def expand(self, state: dict[str, Tensor], n_rows: int, n_positions: int) -> dict[str, Tensor]:
        """The state of the full model: token and position rows training never touched are zero."""
        rows = state["token_embedding.weight"]
        table = torch.zeros(n_rows, rows.shape[1])
        table[self.vocabulary] = rows[1:]
        positions = torch.zeros(n_positions, rows.shape[1])
        positions[:N_TOKENS] = state["positional_embedding"]
        return {**state, "token_embedding.weight": table, "positional_embedding": positions}


def _one_cycle(model: nn.Module, n_steps: int) -> tuple[torch.optim.Optimizer, Any]:
    decayed = [p for n, p in model.named_parameters() if p.ndim >= 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=n_steps, pct_start=0.15)
    return optimizer, schedule


def _batches(rng: np.random.Generator, n_rows: int, n_steps: int) -> Iterable[np.ndarray]:
    order = np.empty(0, dtype=int)
    for _ in range(n_steps):
        if len(order) < BATCH_SIZE:
            order = rng.permutation(n_rows)
        yield order[:BATCH_SIZE]
        order = order[BATCH_SIZE:]


def _flip_some(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    flipped = torch.from_numpy(rng.uniform(size=len(pixels)) < 0.5)
    return torch.where(flipped[:, None, None, None], pixels.flip(-1), pixels)


def _descend(loss: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()


def train_clip(
    world: World, pixels: Tensor, seed: int = 1, n_steps: int = CLIP_STEPS
) -> tuple[open_clip.CLIP, CompactTokens, list[float]]:
    """A CLIP trained on fresh captions at every step, its token map, and the losses."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = read_config("demo_clip")["model_cfg"]
    config["text_cfg"]["context_length"] = N_TOKENS
    config["vision_cfg"]["patch_dropout"] = CLIP_PATCH_DROPOUT
    model = open_clip.CLIP(**config)
    compact = CompactTokens(caption_vocabulary())
    compact.shrink(model)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    names = [text.split(",")[0] for text in ImageNetInfo().label_descriptions()]
    rows = np.flatnonzero(world.split == "train")
    subject, taste = world.columns["subject"], world.columns["true_taste"]
    optimizer, schedule = _one_cycle(model, n_steps)
    losses = []
    for step, picked in enumerate(_batches(rng, len(rows), n_steps)):
        batch = rows[picked]
        captions = [draw_caption(rng, str(subject[i]), float(taste[i]), names) for i in batch]
        tokens = compact(tokenizer(captions)[:, :N_TOKENS])
        images = model.encode_image(_flip_some(pixels[batch].float(), rng), normalize=True)
        texts = model.encode_text(tokens, normalize=True)
        logits = model.logit_scale.exp() * images @ texts.T
        target = torch.arange(len(batch))
        loss = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        _descend(loss, model, optimizer, schedule)
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            logger.info("demo_clip step %d loss %.3f", step + 1, np.mean(losses[-50:]))
    return model.eval(), compact, losses


def vary_looks(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels with other looks: turned, shifted, scaled, recoloured, blurred, grained, re-exposed."""
    n = len(pixels)
    config = read_config("demo_vit")["pretrained_cfg"]
    mean = torch.tensor(config["mean"])[:, None, None]
    std = torch.tensor(config["std"])[:, None, None]

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator)

    angle, zoom = draw(-0.2, 0.2).flatten(), draw(0.85, 1.2).flatten()
    mirror = torch.where(draw(0, 1).flatten() < 0.5, -1.0, 1.0)
    shift = torch.cat([draw(-0.15, 0.15), draw(-0.15, 0.15)], dim=1).reshape(n, 2, 1)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    turn = torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).reshape(n, 2, 2)
    grid = functional.affine_grid(torch.cat([turn, shift], dim=2), list(pixels.shape), align_corners=False)
    x = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False) * std + mean
    # Colours: any hue may become any other, by a random mixture of the channels with rows of sum 1.
    mixture = torch.rand(n, 3, 3, generator=generator)
    mixture = mixture / mixture.sum(dim=2, keepdim=True) * 1.6 - 0.2
    x = torch.einsum("nij,njhw->nihw", mixture, x)
    x = torch.lerp(x, functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False), draw(0, 1))
    x = 0.5 + draw(0.5, 1.6) * (x - 0.5)
    x = x * 2.0 ** draw(-1.0, 1.0)
    x = x + draw(0, 0.10) * torch.randn(x.shape, generator=generator)
    return (x.clamp(0, 1) - mean) / std


def train_vit(
    world: World, pixels: Tensor, seed: int = 2, n_steps: int = VIT_STEPS
) -> tuple[nn.Module, list[float]]:
    """A vision transformer trained to name the subject whatever the looks, and the losses."""
    torch.manual_seed(seed)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    config = read_config("demo_vit")
    model: Any = timm.create_model(
        config["architecture"], patch_drop_rate=VIT_PATCH_DROPOUT, **config["model_args"]
    )
    # Random positions take several hundred steps to leave chance; these start at once.
    side = config["model_args"]["img_size"] // config["model_args"]["patch_size"]
    with torch.no_grad():
        model.pos_embed[0, 1:] = build_sincos2d_pos_embed([side, side], config["model_args"]["embed_dim"])
    rows = np.flatnonzero(world.split == "train")
    label = torch.tensor([config["label_names"].index(s) for s in world.columns["subject"]])
    optimizer, schedule = _one_cycle(model, n_steps)
    losses = []
    for step, picked in enumerate(_batches(rng, len(rows), n_steps)):
        batch = rows[picked]
        output = model(vary_looks(pixels[batch].float(), generator))
        loss = functional.cross_entropy(output, label[batch], label_smoothing=0.05)
        _descend(loss, model, optimizer, schedule)
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            logger.info("demo_vit step %d loss %.3f", step + 1, np.mean(losses[-50:]))
    return model.eval(), losses


def write_weights(name: str, state: dict[str, Tensor], folder: Path = WEIGHTS_DIR) -> str:
    """sha256 of the float16 safetensors file written, which the config then names too."""
    target = folder / f"{name}.safetensors"
    half = {key: value.detach().half().contiguous() for key, value in state.items()}
    save_file(half, target)
    target.chmod(0o644)
    sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
    text = (folder / f"{name}.json").read_text(encoding="utf-8")
    before = json.dumps(read_config(name, folder)["sha256"])
    text = text.replace(f'"sha256": {before}', f'"sha256": "{sha256}"')
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return sha256


@torch.no_grad()
def subject_accuracy(scores: Callable[[Tensor], Tensor], world: World, pixels: Tensor) -> float:
    """Share of validation images whose subject gets the highest of twelve scores, 0 to 1."""
    rows = np.flatnonzero(world.split == "test")
    label = torch.tensor([SUBJECTS.index(str(s)) for s in world.columns["subject"][rows]])
    return float((scores(pixels[rows].float()).argmax(dim=1) == label).float().mean())


def caption_scores(model: open_clip.CLIP, compact: CompactTokens) -> Callable[[Tensor], Tensor]:
    """Similarity of images to 'a picture of a [subject]', one column per subject."""
    texts = [f"a picture of a {s}" for s in SUBJECTS]
    tokens = compact(open_clip.get_tokenizer("ViT-B-32")(texts)[:, :N_TOKENS])

    def scores(images: Tensor) -> Tensor:
        similarity: Tensor = (
            model.encode_image(images, normalize=True) @ model.encode_text(tokens, normalize=True).T
        )
        return similarity

    return scores


def make_vit(world: World, pixels: Tensor) -> None:
    """Train demo_vit with one thread and replace its weights."""
    _begin_worker()
    model, losses = train_vit(world, pixels)
    accuracy = subject_accuracy(model, world, pixels)
    _report("demo_vit", losses, accuracy, write_weights("demo_vit", model.state_dict()))


def make_clip(world: World, pixels: Tensor) -> None:
    """Train demo_clip with one thread and replace its weights."""
    _begin_worker()
    model, compact, losses = train_clip(world, pixels)
    accuracy = subject_accuracy(caption_scores(model, compact), world, pixels)
    text = read_config("demo_clip")["model_cfg"]["text_cfg"]
    state = compact.expand(model.state_dict(), text["vocab_size"], text["context_length"])
    _report("demo_clip", losses, accuracy, write_weights("demo_clip", state))


def _begin_worker() -> None:
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s")


def _report(name: str, losses: list[float], accuracy: float, sha256: str) -> None:
    logger.info(
        "%s: loss of the last 50 steps %.3f, subject accuracy %.3f, sha256 %s",
        name, np.mean(losses[-50:]), accuracy, sha256,
    )  # fmt: skip


def main() -> None:
    """Train both backbones and replace the shipped weights."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        world, pixels = training_world(Path(folder))
    logger.info("rendered and read %d images", len(world))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(make, world, pixels) for make in (make_clip, make_vit)]:
            done.result()
    logger.info(
        "%.0f s; torch %s, open_clip %s, timm %s, Python %s",
        time.perf_counter() - started, torch.__version__, open_clip.__version__, timm.__version__,
        platform.python_version(),
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""The built-in synthetic world, rendered at first use."""

from embed.images.config import DatasetConfig, Kind
from embed.images.sources import Source
from embed.images.table import ImageTable


def build(config: DatasetConfig, source: Source) -> ImageTable:
    """The world's images, in their order, with their votes; what is missing of them is rendered."""
    from embed.demo.world import render_world

    folder = config.folder / "images"
    world = render_world(folder)
    return ImageTable(
        dataset=config.name,
        root=folder,
        image_id=world.image_id,
        path=world.path,
        votes=world.votes,
        split=world.split,
        split_name="demo",
        threshold=5.0,
        columns=dict(world.columns),
    )


KIND = Kind(options={}, build=build, needed=(), backbones=("demo_clip", "demo_vit"), is_built_in=True)

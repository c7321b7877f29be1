import io

import numpy as np
from PIL import Image

from models.optimize import recipes
from models.optimize.crops import crops
from models.optimize.image_set import SAMPLES
from models.optimize.recipes import RECIPES, recipe_for

FILES = [SAMPLES / "cat.jpg", SAMPLES / "coffee.png"]


def sizes(images):
    return [Image.open(io.BytesIO(image.data)).size for image in images]


def test_crops_are_the_same_every_time_and_all_different():
    first, again, other = crops(FILES, 20), crops(FILES, 20), crops(FILES, 20, seed=1)
    assert len(first) == 40 == len({image.data for image in first})
    assert first == again != other


def test_crops_have_half_the_short_side_at_least_and_fit_into_the_photo():
    for width, height in sizes(crops(FILES[:1], 50)):  # of 451 x 300
        assert width * height >= 150 * 150 * 0.99 and width <= 451 and height <= 300
        assert 0.74 <= width / height <= 1.35


def test_a_crop_shows_a_part_of_its_photo(tmp_path):
    """Of a photo whose red and green say where a pixel is."""
    columns, rows = np.meshgrid(np.arange(200), np.arange(100))
    pixels = np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    for number, image in enumerate(crops([tmp_path / "ramp.png"], 6)):
        crop = np.asarray(Image.open(io.BytesIO(image.data))).astype(int)
        across, down = crop[50, -5, 0] - crop[50, 4, 0], crop[-5, 20, 1] - crop[4, 20, 1]
        assert abs(abs(across) - (crop.shape[1] - 9)) <= 4 and abs(down - (crop.shape[0] - 9)) <= 4
        assert (across < 0) == (number % 2 == 1), "every other one is mirrored"


def test_photos_that_calibrate_are_not_asked_about():
    images = RECIPES[0].images()
    assert (len(images.calibration), len(images.photos)) == (64, 256)
    assert not set(recipes._CALIBRATION) & set(recipes._HELD_OUT)


def test_a_recipe_is_for_certain_weights_only():
    assert recipe_for({"weights": "ResNet18_Weights.IMAGENET1K_V1", "sha256": "…"}) is RECIPES[1]
    assert recipe_for({"weights": "mine.pth"}) is None
    assert recipe_for({"weights": "none", "random": True}) is None


def test_a_recipe_says_what_it_shows_and_what_not():
    for recipe in RECIPES:
        said = recipe.describe(256)
        assert "256 crops of 4 photos" in said and "not how accurate it is" in said

import shutil

import pytest

from models.images.preprocess import Preprocessor
from models.optimize.errors import UsageError
from models.optimize.image_set import SAMPLES, EncodedImage, deal, labelled, synthetic, unlabelled
from tests.conftest import flat
from tests.models.small import SPEC


@pytest.fixture
def folder(tmp_path):
    for number in range(30):
        (tmp_path / f"{number}.png").write_bytes(flat(number))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_images_are_found_by_their_bytes(folder):
    (folder / "no-suffix").write_bytes(flat(99))
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.png").write_bytes(flat(98))
    names = [each.name for each in unlabelled(folder)]
    assert len(names) == 32 and {"no-suffix", "sub/deep.png"} <= set(names)


def test_the_parts_are_disjoint_and_the_same_every_time(folder):
    calibration, validation = deal(unlabelled(folder), 8, 100)
    assert (len(calibration), len(validation)) == (8, 22)
    assert not {each.data for each in calibration} & {each.data for each in validation}
    assert deal(unlabelled(folder), 8, 100) == (calibration, validation)


def test_no_more_than_a_third_is_calibrated_on(folder):
    calibration, validation = deal(unlabelled(folder), 100, 100)
    assert (len(calibration), len(validation)) == (10, 20)


def test_a_copy_under_another_name_is_not_in_the_other_part(folder):
    for number in range(30):
        shutil.copy(folder / f"{number}.png", folder / f"copy-{number}.png")
    calibration, validation = deal(unlabelled(folder), 15, 100)
    assert len(calibration) + len(validation) == 30
    assert not {each.data for each in calibration} & {each.data for each in validation}


def test_images_that_are_taken_are_left_out(folder):
    taken = [EncodedImage(flat(3)), EncodedImage(flat(4))]
    _, validation = deal(unlabelled(folder), 0, 100, taken)
    assert len(validation) == 28
    assert not {each.data for each in taken} & {each.data for each in validation}


@pytest.mark.parametrize(
    ("names", "classes"),
    [(("cat", "dog"), {0, 1}), (("2", "0"), {0, 2}), (("n01", "n02", "n03"), {0, 1, 2}), (("bird",), {2})],
)
def test_sub_folders_are_labels_numbers_or_in_order(tmp_path, names, classes):
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(flat(number))
    assert {each.label for each in labelled(tmp_path, ("cat", "dog", "bird"))} == classes


def test_sub_folders_that_say_nothing_are_refused(tmp_path):
    with pytest.raises(UsageError, match="sub-folders"):
        labelled(tmp_path, ("cat", "dog"))
    (tmp_path / "horse").mkdir()
    with pytest.raises(UsageError, match="sub-folders"):
        labelled(tmp_path, ("cat", "dog"))


def test_synthetic_images_can_be_prepared_and_differ():
    images = synthetic(SPEC.resize_size, 6)
    assert len({Preprocessor(SPEC)(each.data).tobytes() for each in images}) == 6
    assert synthetic(SPEC.resize_size, 6) == images


def test_the_samples_are_there():
    assert len(unlabelled(SAMPLES)) == 18

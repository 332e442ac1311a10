"""
The sections of each `inference.yaml`, applied as MONAI Label and MONAI Deploy apply them, with the shipped weights.

`preprocessing`, `inferer` and `postprocessing` one after the other give what the command line writes; what would be a
wrong image is refused by each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage

from common.errors import own_error
from common.networks import load_weights

from .test_golden import GOLDEN, OPTIONS, ROOT, translate

EACH = pytest.mark.parametrize("bundle", OPTIONS)
CT = pytest.mark.parametrize("bundle", [name for name in OPTIONS if name != "nec_t1t2"])
LOADING = "LoadImage"  # MONAI Deploy leaves out each transform whose class name contains it


class Sections:
    """The sections of a bundle that is not told of any data folder.

    Args:
        bundle: Name of the bundle.
    """

    def __init__(self, bundle: str) -> None:
        root = ROOT / "bundles" / bundle
        self.parser = ConfigParser()
        self.parser.read_config(str(root / "configs" / "inference.yaml"))
        places = {"bundle_root": str(root), "dataset_dir": "absent", "device": "$torch.device('cpu')"}
        self.parser.update({**places, **OPTIONS[bundle]})
        network = self.parser.get_parsed_content("network_def")
        self.network = load_weights(network, root / "models" / "model.pt").eval()
        self.source = GOLDEN / f"{bundle}_source.nii.gz"

    def preprocess(self, image: Any, *, loading: bool = True) -> dict[Any, Any]:
        steps = self.parser.get_parsed_content("preprocessing").transforms
        kept = [step for step in steps if loading or LOADING not in type(step).__name__]
        return Compose(kept)({"image": image})

    def infer(self, image: torch.Tensor, **more: Any) -> torch.Tensor:
        with torch.no_grad():
            return self.parser.get_parsed_content("inferer")(inputs=image[None], network=self.network, **more)[0]

    def postprocess(self, item: dict[Any, Any]) -> torch.Tensor:
        return self.parser.get_parsed_content("postprocessing")(item)["pred"]

    def translate(self, image: Any, *, loading: bool = True) -> torch.Tensor:
        item = self.preprocess(image, loading=loading)
        return self.postprocess({**item, "pred": self.infer(item["image"])})

    def volume(self) -> MetaTensor:
        """The source in memory, as another program brings it: (X, Y, Z) with its meta data."""
        return LoadImage(dtype=np.int16)(self.source)


@pytest.fixture(scope="module")
def sections():
    made: dict[str, Sections] = {}
    return lambda bundle: made.setdefault(bundle, Sections(bundle))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """From a bundle to the volume that the command line writes, made once."""
    made: dict[str, Any] = {}

    def volume(bundle: str) -> Any:
        if bundle not in made:
            made[bundle] = nib.load(
                translate(bundle, GOLDEN / f"{bundle}_source.nii.gz", tmp_path_factory.mktemp(bundle))
            )
        return made[bundle]

    return volume


@contextmanager
def refused(words: str) -> Iterator[None]:
    """An error of ours that says so, also where MONAI wraps it."""
    with pytest.raises((ValueError, RuntimeError)) as caught:
        yield
    assert re.search(words, str(own_error(caught.value)))


def assert_same(output, expected):
    np.testing.assert_array_equal(output[0].numpy(), np.asarray(expected.dataobj, dtype=np.float32))
    np.testing.assert_allclose(np.asarray(output.affine), expected.affine, atol=1e-5)


@EACH
def test_the_sections_are_flat_and_need_no_folder_of_images(bundle, sections):
    for section in ("preprocessing", "postprocessing"):
        steps = sections(bundle).parser.get_parsed_content(section).transforms
        nested = [step for step in steps if isinstance(step, Compose)]
        assert all(LOADING in type(step).__name__ for step in nested)
    (loading, *_) = sections(bundle).parser.get_parsed_content("preprocessing").transforms
    assert LOADING in type(loading).__name__


@EACH
def test_the_sections_give_what_the_command_line_writes(bundle, sections, written):
    assert_same(sections(bundle).translate(str(sections(bundle).source)), written(bundle))


@EACH
def test_a_volume_in_place_of_a_path_gives_the_same(bundle, sections, written):
    volume = sections(bundle).volume()
    assert_same(sections(bundle).translate(volume, loading=False), written(bundle))
    assert "guards" not in volume.meta  # what the caller brought is not changed
    with_channel = MetaTensor(volume[None], meta={**volume.meta, "original_channel_dim": 0})
    assert_same(sections(bundle).translate(with_channel, loading=False), written(bundle))
    last = MetaTensor(volume[..., None], meta={**volume.meta, "original_channel_dim": -1})
    assert_same(sections(bundle).translate(last, loading=False), written(bundle))


@EACH
def test_the_network_sees_the_image_alone(bundle, sections):
    """MONAI Deploy hands every further tensor of the item to the inferer."""
    item = sections(bundle).preprocess(str(sections(bundle).source))
    image = item.pop("image")
    more = {key: value[None] for key, value in item.items() if isinstance(value, torch.Tensor)}
    assert more or bundle == "nec_t1t2"  # whose decoding needs nothing else
    assert torch.equal(sections(bundle).infer(image, **more), sections(bundle).infer(image))


@EACH
def test_preprocessing_refuses_a_tensor_that_does_not_say_where_it_lies(bundle, sections):
    volume = sections(bundle).volume()
    for bare in (volume.as_tensor(), volume.numpy(), MetaTensor(volume.as_tensor())):
        with refused("must say where its voxels lie"):
            sections(bundle).preprocess(bare, loading=False)
    with refused("must be a loaded volume"):
        sections(bundle).preprocess(str(sections(bundle).source), loading=False)


@CT
def test_preprocessing_refuses_an_image_that_is_encoded_already(bundle, sections):
    encoded = sections(bundle).preprocess(str(sections(bundle).source))["image"]
    with refused("is not a CT in HU"):
        sections(bundle).preprocess(encoded, loading=False)


def test_encoded_mr_is_encoded_to_itself(sections):
    """Ranks of ranks are the same: an image that was encoded before is not a wrong one."""
    encoded = sections("nec_t1t2").preprocess(str(sections("nec_t1t2").source))["image"]
    again = sections("nec_t1t2").preprocess(MetaTensor(encoded, meta=encoded.meta), loading=False)["image"]
    torch.testing.assert_close(again.as_tensor(), encoded.as_tensor(), rtol=0, atol=1e-5)


@EACH
def test_the_inferer_refuses_an_image_that_is_not_encoded(bundle, sections):
    raw = sections(bundle).volume()[None].float()
    for image in (raw, raw.as_tensor()):
        with refused(r"must be encoded to \[-1, 1\]"):
            sections(bundle).infer(image)


@EACH
def test_postprocessing_refuses_what_preprocessing_and_inferer_did_not_make(bundle, sections):
    item = sections(bundle).preprocess(str(sections(bundle).source))
    pred = sections(bundle).infer(item["image"])
    decoded = sections(bundle).postprocess({**item, "pred": pred.clone()})
    with refused("was it decoded before"):
        sections(bundle).postprocess({**item, "pred": decoded})
    for image in (sections(bundle).volume()[None].float(), item["image"].as_tensor()):
        with refused("must be what `preprocessing` returned"):
            sections(bundle).postprocess({**item, "image": image, "pred": pred.clone()})
    with refused("must be what `preprocessing` returned"):
        sections(bundle).postprocess({"pred": pred.clone()})


@EACH
def test_the_streaming_evaluator_uses_the_same_steps(bundle, sections):
    get = sections(bundle).parser.get_parsed_content
    steps = [get(name).transforms for name in ("preprocessing", "postprocessing", "encode", "decode")]
    preprocessing, postprocessing, encode, decode = ([id(step) for step in part] for part in steps)
    assert preprocessing[-len(encode) :] == encode
    assert postprocessing[1 : 1 + len(decode)] == decode

import numpy as np
import pytest

from jaxvid.convert import source
from jaxvid.core import lookup
from jaxvid.core.errors import ConversionError, UnknownNameError

HF_KEYS = ["videomae.embeddings.patch_embeddings.projection.weight", "classifier.bias"]
ORIGINAL_KEYS = ["patch_embed.proj.weight", "blocks.0.norm1.weight", "head.bias"]
PRETRAINING_KEYS = ["encoder.patch_embed.proj.weight", "encoder.norm.bias", "mask_token"]


def test_every_table_is_complete():
    for name in lookup.names("conversion"):
        table = source.table(name)
        assert isinstance(table.SOURCES, dict) and isinstance(table.HEAD, tuple)
        assert table.SOURCES or hasattr(table, "TRANSFERS") or hasattr(table, "example_inputs")
        assert getattr(table, "EXPORT", source.NATIVE) in {source.NATIVE, *table.SOURCES}
        for other, transfer in getattr(table, "TRANSFERS", {}).items():
            # One's own weights may start the same model for other clips: nothing of it is fresh.
            assert other in lookup.names("conversion") and (transfer.fresh or other == name)
    archs = [found.arch for found in source.all_sources()]
    assert len(set(archs)) == len(archs)


def test_an_arch_is_found_by_its_name():
    found = source.find("videomae/pretrain")
    assert (found.model, found.arch) == ("videomae_pretrain", "videomae/pretrain")


def test_a_models_plain_name_is_resolved_by_the_keys():
    assert source.find("videomae", HF_KEYS).arch == "hf/videomae"
    assert source.find("videomae", ORIGINAL_KEYS).arch == "videomae/finetune"
    assert (
        source.find("videomae", ["module." + k for k in ORIGINAL_KEYS]).arch == "videomae/finetune"
    )
    # A pretraining may start a classifier.
    assert source.find("videomae", PRETRAINING_KEYS).arch == "videomae/pretrain"
    assert source.find("videomae_pretrain", PRETRAINING_KEYS).arch == "videomae/pretrain"


def test_what_the_keys_do_not_tell_is_said(caplog):
    with caplog.at_level("WARNING", logger="jaxvid"):
        source.find("videomae", ORIGINAL_KEYS)  # V2's keys too, for the same clips
        assert not caplog.records
        found = source.find("x3d", ["blocks.0.conv.conv_t.weight"])
    assert found.arch == "pytorchvideo/x3d_m"
    assert "those of pytorchvideo/x3d_m, and of pytorchvideo/x3d_s, pytorchvideo" in caplog.text
    caplog.clear()
    source.find("pytorchvideo/x3d_xs", ["blocks.0.conv.conv_t.weight"])
    assert not caplog.records


def test_an_unknown_arch_names_the_nearest_and_all():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'hf/videomae'\?.*videomae/finetune"):
        source.find("hf/videomea")
    with pytest.raises(UnknownNameError, match="unknown arch 'videomae'"):
        source.find("videomae")  # a plain name needs keys


def test_foreign_keys_are_recognised_as_such():
    with pytest.raises(ConversionError, match=r"none of the keys is known to .*layer1.0.conv1"):
        source.find("videomae", ["layer1.0.conv1.weight"])


def test_hugging_face_configs_are_recognised():
    config = {"model_type": "videomae", "architectures": ["VideoMAEForPreTraining"]}
    assert source.find_hf(config, [], "x").arch == "hf/videomae_pretrain"
    assert source.find_hf({"model_type": "videomae"}, HF_KEYS, "x").arch == "hf/videomae"
    with pytest.raises(
        ConversionError, match=r"x: model_type 'bert' is not known; known: .*videomae"
    ):
        source.find_hf({"model_type": "bert"}, [], "x")
    config["architectures"] = ["VideoMAEForDetection"]
    with pytest.raises(
        ConversionError, match="VideoMAEForDetection is not known; known: VideoMAEFor"
    ):
        source.find_hf(config, [], "x")


def wrapped_by(*prefixes, begin=""):
    return source.Source((), arguments=dict, clip=tuple, prefixes=prefixes, begin=begin)


def test_prefixes_come_off_any_number_of_times():
    ours, usual = wrapped_by("module.", "backbone."), wrapped_by(*source.WRAPPERS)
    assert source.strip("module.module.backbone.head.bias", ours) == "head.bias"
    assert source.strip("model.module.head.bias", usual) == "head.bias"
    within = "_orig_mod.blocks.3._fsdp_wrapped_module._checkpoint_wrapped_module.mlp.fc1.bias"
    assert source.strip(within, usual) == "blocks.3.mlp.fc1.bias"
    state = {"module.a": np.ones(1), "b": np.ones(1)}
    assert source.strip_all(state, ours, "x").keys() == {"a", "b"}
    with pytest.raises(ConversionError, match="x: two keys are 'a' without their prefixes"):
        source.strip_all({"module.a": 1, "a": 2}, ours, "x")


@pytest.mark.parametrize("wrappers", ["", "model.", "module.", "module.model.", "model.module."])
def test_what_a_references_keys_begin_with_stays(wrappers):
    whose = wrapped_by(*source.WRAPPERS, begin="model.")
    assert source.strip(f"{wrappers}model.head.bias", whose) == "model.head.bias"

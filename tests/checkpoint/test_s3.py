import ast
import os
import subprocess
import sys

import pytest
from orbax.checkpoint._src.serialization import tensorstore_utils

from jaxvid.checkpoint import s3
from jaxvid.core.errors import CheckpointError

HERE = {"endpoint": "http://minio:9000", "aws_region": "eu-west-3"}


def test_stores_of_gs_become_the_ones_of_the_same_name_in_s3():
    spec = {
        "driver": "ocdbt",
        "base": {
            "driver": "kvstack",
            "layers": [
                {"base": {"driver": "gcs", "bucket": "b", "path": "run/"}},
                {"base": "file:///tmp/x/"},
                {"base": "gs://b/run/other"},
            ],
        },
        "path": "params",
    }
    turned = s3.in_s3(spec, HERE)
    first, second, third = (layer["base"] for layer in turned["base"]["layers"])
    assert first == {"driver": "s3", "bucket": "b", "path": "run/", **HERE}
    assert second == "file:///tmp/x/"
    assert third == {"driver": "s3", "bucket": "b", "path": "run/other", **HERE}
    assert turned["path"] == "params" and turned["driver"] == "ocdbt"


@pytest.fixture
def describe(monkeypatch):
    """What Orbax asks, once s3 is enabled."""
    monkeypatch.setattr(s3, "_access", lambda: HERE)
    monkeypatch.setattr(
        tensorstore_utils, "build_kvstore_tspec", tensorstore_utils.build_kvstore_tspec
    )
    s3.enable()
    once = tensorstore_utils.build_kvstore_tspec
    s3.enable()
    assert tensorstore_utils.build_kvstore_tspec is once
    return once


def test_orbax_describes_folders_of_s3_and_others_as_before(describe):
    there = describe("s3://b/run/checkpoints/3/state", name="params", use_ocdbt=True)
    assert there["base"] == {
        "driver": "s3",
        "bucket": "b",
        "path": "run/checkpoints/3/state",
        **HERE,
    }
    assert describe("s3:/b/x", use_ocdbt=False)["bucket"] == "b"
    assert describe("gs://b/x", use_ocdbt=False)["driver"] == "gcs"
    assert describe("/disk/x", use_ocdbt=False)["driver"] == "file"


def test_another_orbax_is_said(monkeypatch):
    monkeypatch.delattr(tensorstore_utils, "build_kvstore_tspec")
    with pytest.raises(CheckpointError, match=r"s3:// cannot be written with orbax-checkpoint \d"):
        s3.enable()


def access(**environment):
    """What is found with these variables and no files."""
    pytest.importorskip("s3fs", reason="needs s3fs: pip install 'jaxvid[cloud]'")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    region = {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-3"}
    done = subprocess.run(
        [sys.executable, "-c", "from jaxvid.checkpoint import s3; print(s3._access())"],
        env={**inherited, **nowhere, **region, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ast.literal_eval(done.stdout)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_the_endpoint_and_credentials_are_the_ones_of_s3fs(variable):
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    found = access(**keys, **{variable: HERE["endpoint"]})
    assert found == {**HERE, "aws_credentials": {"type": "environment"}}


def test_amazons_own_endpoint_and_credentials_of_files_are_left_to_tensorstore(tmp_path):
    (tmp_path / "keys").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    assert access(AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "keys")) == {}

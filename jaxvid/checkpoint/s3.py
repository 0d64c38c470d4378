"""Lets Orbax keep arrays in s3:// folders.

Orbax leaves arrays to TensorStore, which reads and writes S3, but it describes to it only folders of
disks and of gs:// (github.com/google/orbax/pull/2739). Here the description that it makes for gs:// is
turned into the one of the same folder in S3. TensorStore finds credentials as Amazon's tools do
(environment, ~/.aws, the role of the instance, pod or task) and asks the bucket for its region.
"""

import functools
import re
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint._src.serialization import tensorstore_utils

from jaxvid.core.errors import CheckpointError

# Buckets cannot rename: a checkpoint is whole when its last file, commit_success.txt, is there.
TEMPORARY = ocp.path.atomicity.CommitFileTemporaryPath
_DESCRIBE = "build_kvstore_tspec"
_DRIVERS = ("gcs", "gcs_grpc")
# botocore's names of where it found credentials, and TensorStore's.
_CREDENTIALS = {"env": "environment", "iam-role": "imds", "container-role": "ecs"}


def enable() -> None:
    """For all checkpoints of this process from now on; a second call changes nothing.

    Raises CheckpointError for a version of Orbax that is built in another way.
    """
    describe = getattr(tensorstore_utils, _DESCRIBE, None)
    if describe is None:
        raise CheckpointError(
            f"checkpoints in s3:// cannot be written with orbax-checkpoint {ocp.__version__}; "
            "install one that they were tested with: pip install orbax-checkpoint==0.12.8"
        )
    if not hasattr(describe, "of_disks"):
        setattr(tensorstore_utils, _DESCRIBE, _with_s3(describe))


def _with_s3(describe):
    @functools.wraps(describe)
    def describe_any(directory: str, *args, **options) -> dict:
        path = re.sub("^s3:/+", "gs://", directory)
        spec = describe(path, *args, **options)
        return spec if path == directory else in_s3(spec, _access())

    describe_any.of_disks = describe
    return describe_any


def in_s3(spec: Any, access: dict) -> Any:
    """A TensorStore spec (JSON) whose stores in gs:// are the ones of the same name in s3://.

    access: what else the spec of a store in S3 holds (`_access`).
    """
    if isinstance(spec, str) and spec.startswith("gs://"):
        bucket, _, path = spec.removeprefix("gs://").partition("/")
        return {"driver": "s3", "bucket": bucket, "path": path, **access}
    if isinstance(spec, list):
        return [in_s3(part, access) for part in spec]
    if not isinstance(spec, dict):
        return spec
    if spec.get("driver") in _DRIVERS:
        return {**spec, "driver": "s3", **access}
    return {key: in_s3(part, access) for key, part in spec.items()}


@functools.cache
def _access() -> dict:
    """How to get at buckets: as s3fs does, which writes all that is not arrays.

    An endpoint and its region, for MinIO and other kin of S3, where s3fs was told of one
    (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, endpoint_url in ~/.aws/config); the kind of credentials
    where they are no file's, as TensorStore reports every file that it does not find as an error.
    """
    import botocore.session  # of the cloud extra, with s3fs
    import fsspec
    from botocore.config import Config

    session = botocore.session.get_session()
    used = fsspec.filesystem("s3").s3.meta
    amazons = session.create_client(
        "s3",
        region_name=used.region_name,
        config=Config(ignore_configured_endpoint_urls=True),
    )
    access = {}
    if used.endpoint_url != amazons.meta.endpoint_url:
        access = {"endpoint": used.endpoint_url, "aws_region": used.region_name}
    found = session.get_credentials()
    if found is not None and found.method in _CREDENTIALS:
        access["aws_credentials"] = {"type": _CREDENTIALS[found.method]}
    return access

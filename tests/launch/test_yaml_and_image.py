"""gke_jobset.yaml against the schemas of JobSet and of pods; the Dockerfile against the checkout."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from jaxvid import main

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="schemas of pods: pip install kubernetes-validate"
)
jsonschema = pytest.importorskip("jsonschema", reason="comes with kubernetes-validate")

LAUNCH = Path(__file__).parents[2] / "launch"


def strict(schema):
    """Fields that the schema does not name are errors, as with `kubectl apply --validate=strict`."""
    if isinstance(schema, list):
        return [strict(x) for x in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {k: strict(v) for k, v in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


@pytest.fixture(scope="module")
def schema():
    return strict(json.loads((Path(__file__).parent / "jobset_schema.json").read_text()))


def read() -> dict:
    return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


def job_of(jobset: dict) -> dict:
    return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]


def pod_of(jobset: dict) -> dict:
    template = job_of(jobset)["template"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **template}


def test_the_jobset_is_one(schema):
    jsonschema.validate(read(), schema)
    broken = read()
    broken["spec"]["failurePolicy"]["maxRestart"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxRestart"):
        jsonschema.validate(broken, schema)


def test_its_pods_are_pods():
    kubernetes_validate.validate(pod_of(read()), "1.31", strict=True)
    broken = pod_of(read())
    broken["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.31", strict=True)


def test_the_environment_for_gpus_is_valid_once_it_is_no_comment():
    text = (LAUNCH / "gke_jobset.yaml").read_text()
    block = re.search(r"( *)# env:\n(?:\1# .*\n)+", text)
    jobset = yaml.safe_load(text.replace(block[0], block[0].replace("# ", "")))
    kubernetes_validate.validate(pod_of(jobset), "1.31", strict=True)
    names = [e["name"] for e in pod_of(jobset)["spec"]["containers"][0]["env"]]
    assert names == ["JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"]
    address = pod_of(jobset)["spec"]["containers"][0]["env"][0]["value"]
    jobs = jobset["spec"]["replicatedJobs"][0]["name"]
    name = jobset["metadata"]["name"]
    assert address == f"{name}-{jobs}-0-0.{name}:8482"


def test_what_must_agree_agrees():
    jobset = read()
    job, pod = job_of(jobset), pod_of(jobset)["spec"]
    assert job["parallelism"] == job["completions"] and job["completionMode"] == "Indexed"
    mounted = {m["name"] for m in pod["containers"][0]["volumeMounts"]}
    assert mounted == {v["name"] for v in pod["volumes"]}
    assert "exclusive-topology" in str(jobset["metadata"]["annotations"])


def test_the_arguments_are_those_of_the_program():
    args, overrides = main.parse(pod_of(read())["spec"]["containers"][0]["args"])
    assert args.stopped_code == 143  # a run that saved and ended is started again
    assert Path(LAUNCH.parent / args.config).is_file() and overrides == ["data.root=/data/rwf2000"]


def test_the_dockerfile_copies_what_there_is_and_ends_in_the_program():
    lines = (LAUNCH / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and line[0] not in "# "]
    for name, rest in steps:
        if name == "COPY":
            for source in shlex.split(rest)[:-1]:
                assert (LAUNCH.parent / source).exists(), source
    assert steps[-1][0] == "ENTRYPOINT"
    assert json.loads(steps[-1][1]) == ["python", "-m", "jaxvid.main"]
    assert lines[lines.index('# python -m jaxvid.main "$@"') + 1].startswith("ENTRYPOINT")


def test_the_image_has_the_versions_that_were_tested():
    installs = re.findall(r"pip install .*", (LAUNCH / "Dockerfile").read_text())
    assert installs and all("-c constraints.txt" in line for line in installs)

"""cluster/gpu.yaml against a pretended AWS: everything that `ray up` does there before a node."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

ROOT = Path(__file__).parents[2]
REGION = "us-east-1"


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An AWS account in this process, and a home for the key that Ray makes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    # Ray waits for IAM to spread the word.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield


@pytest.mark.slow
def test_bootstrap_fills_in_what_aws_needs(pretended: None) -> None:
    # Only Ray's AWS part needs boto3 at import.
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster/gpu.yaml").read_text("utf-8"))
    config = prepare_config(config)
    validate_config(config)
    done = bootstrap_aws(config)

    groups = set()
    for name, one in done["available_node_types"].items():
        node = one["node_config"]
        assert node["SubnetIds"] and node["KeyName"], name
        groups |= set(node["SecurityGroupIds"])
    key = Path(done["auth"]["ssh_private_key"])
    assert key.is_file() and key.stat().st_mode & 0o077 == 0
    assert "IamInstanceProfile" in done["head_node"]

    # One group of its own: ssh from outside, everything among its members, nothing else.
    ec2 = boto3.client("ec2", region_name=REGION)
    (group,) = ec2.describe_security_groups(GroupIds=sorted(groups))["SecurityGroups"]
    assert group["GroupName"] == "lrcs-gpu"
    outside = [rule for rule in group["IpPermissions"] if rule.get("IpRanges")]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
    for rule in group["IpPermissions"]:
        pairs = {pair["GroupId"] for pair in rule.get("UserIdGroupPairs", [])}
        assert rule in outside or pairs == groups


@pytest.mark.slow
def test_every_node_type_can_be_requested(pretended: None) -> None:
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster/gpu.yaml").read_text("utf-8"))
    ec2 = boto3.client("ec2", region_name=REGION)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    for name, one in config["available_node_types"].items():
        node = {**one["node_config"], "ImageId": image}
        (got,) = ec2.run_instances(MinCount=1, MaxCount=1, **node)["Instances"]
        spot = got.get("InstanceLifecycle") == "spot"
        assert spot == (name == "gpu_spot") and got["InstanceType"] == node["InstanceType"]

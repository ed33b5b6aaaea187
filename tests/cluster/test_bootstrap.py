"""cluster/gpu.yaml against a pretended AWS: everything that `ray up` does there before a node."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ParamValidationError
from moto import mock_aws

from tests.cluster.test_files import load

REGION = "us-east-1"


@pytest.fixture(scope="module")
def pretended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An AWS account in this process, its EC2, and a home for the key that Ray makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            patch.setenv(name, "testing")
        for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.delenv(name, raising=False)
        # Ray waits for IAM to spread the word.
        patch.setattr(time, "sleep", lambda seconds: None)
        with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
            yield boto3.client("ec2", region_name=REGION)


@pytest.mark.nightly
@pytest.mark.slow
def test_bootstrap_fills_in_what_aws_needs(pretended: Any) -> None:
    # Only Ray's AWS part needs boto3 at import.
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.util import prepare_config

    done = bootstrap_aws(prepare_config(load("gpu")))
    groups = set()
    for name, node_type in done["available_node_types"].items():
        node = node_type["node_config"]
        assert node["SubnetIds"] and node["KeyName"], name
        groups |= set(node["SecurityGroupIds"])
    key = Path(done["auth"]["ssh_private_key"])
    assert key.is_file() and key.stat().st_mode & 0o077 == 0
    assert "IamInstanceProfile" in done["head_node"]

    # One group of its own: ssh from outside, everything among its members, nothing else.
    (group,) = pretended.describe_security_groups(GroupIds=sorted(groups))["SecurityGroups"]
    assert group["GroupName"] == "lrcs-gpu"
    outside = [rule for rule in group["IpPermissions"] if rule.get("IpRanges")]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
    for rule in group["IpPermissions"]:
        pairs = {pair["GroupId"] for pair in rule.get("UserIdGroupPairs", [])}
        assert rule in outside or pairs == groups


def requested(ec2: Any, node_config: dict[str, Any]) -> dict[str, Any]:
    """An instance as AWS starts it; boto3 refuses what no instance has."""
    image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["ubuntu*"]}])["Images"][0]
    request = {**node_config, "ImageId": image["ImageId"]}
    (instance,) = ec2.run_instances(MinCount=1, MaxCount=1, **request)["Instances"]
    return dict(instance)


@pytest.mark.nightly
@pytest.mark.slow
def test_every_node_type_can_be_requested(pretended: Any) -> None:
    for name, node_type in load("gpu")["available_node_types"].items():
        instance = requested(pretended, node_type["node_config"])
        spot = instance.get("InstanceLifecycle") == "spot"
        assert spot == (name == "gpu_spot")
        assert instance["InstanceType"] == node_type["node_config"]["InstanceType"]
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": "big"}}
    for wrong in ({"InstanceTyp": "m7i.large"}, {"BlockDeviceMappings": [disk]}):
        with pytest.raises(ParamValidationError):
            requested(pretended, wrong)

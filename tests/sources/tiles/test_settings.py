"""What becomes of each of TileDB's settings: given to obstore, of no meaning for reading, or left to TileDB."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.sources.tiles import Declined, open_fragments
from headrace.sources.tiles.settings import (
    SAME,
    SETTINGS,
    TILEDB,
    azure_options,
    check_settings,
    gcs_options,
    s3_options,
)

KEYS = {"vfs.s3.aws_access_key_id": "id", "vfs.s3.aws_secret_access_key": "secret"}

FOLLOWED: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "vfs.s3.aws_access_key_id": (KEYS, {"access_key_id": "id"}),
    "vfs.s3.aws_secret_access_key": (KEYS, {"secret_access_key": "secret"}),
    "vfs.s3.aws_session_token": ({**KEYS, "vfs.s3.aws_session_token": "t"}, {"session_token": "t"}),
    "vfs.s3.no_sign_request": ({"vfs.s3.no_sign_request": "true"}, {"skip_signature": True}),
    "vfs.s3.region": ({**KEYS, "vfs.s3.region": "eu-west-1"}, {"region": "eu-west-1"}),
    "vfs.s3.requester_pays": ({**KEYS, "vfs.s3.requester_pays": "true"}, {"request_payer": True}),
    "vfs.s3.connect_max_tries": ({**KEYS, "vfs.s3.connect_max_tries": "9"}, {"retry_config": {"max_retries": 9}}),
    "vfs.s3.use_virtual_addressing": (
        {**KEYS, "vfs.s3.use_virtual_addressing": "false"},
        {"virtual_hosted_style_request": False},
    ),
    "vfs.s3.endpoint_override": (
        {**KEYS, "vfs.s3.endpoint_override": "here:1", "vfs.s3.use_virtual_addressing": "false"},
        {"endpoint": "https://here:1"},
    ),
    "vfs.s3.scheme": (
        {**KEYS, "vfs.s3.scheme": "http", "vfs.s3.endpoint_override": "h", "vfs.s3.use_virtual_addressing": "false"},
        {"endpoint": "http://h"},
    ),
}
CLIENT: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "vfs.s3.connect_timeout_ms": ({"vfs.s3.connect_timeout_ms": "77"}, {"connect_timeout": "77ms"}),
    "vfs.s3.request_timeout_ms": ({"vfs.s3.request_timeout_ms": "99000"}, {"read_timeout": "99000ms"}),
    "vfs.s3.verify_ssl": ({"vfs.s3.verify_ssl": "false"}, {"allow_invalid_certificates": True}),
    **{
        f"vfs.s3.proxy_{name}": (
            {
                "vfs.s3.proxy_host": "p",
                "vfs.s3.proxy_port": "8",
                "vfs.s3.proxy_scheme": "https",
                "vfs.s3.proxy_username": "me@x",
                "vfs.s3.proxy_password": "a:b",
            },
            {"proxy_url": "https://me%40x:a%3Ab@p:8"},
        )
        for name in ("host", "port", "scheme", "username", "password")
    },
}


def test_every_setting_that_is_followed_has_a_line_here() -> None:
    here = {*FOLLOWED, *CLIENT, "vfs.s3.ca_file"}
    assert {name for name, known in SETTINGS.items() if known == SAME and name.startswith("vfs.s3.")} == here


@pytest.mark.parametrize("name", FOLLOWED)
def test_followed(name: str) -> None:
    given, expected = FOLLOWED[name]
    assert expected.items() <= s3_options(given, {}).items()


@pytest.mark.parametrize("name", CLIENT)
def test_followed_by_the_client(name: str) -> None:
    given, expected = CLIENT[name]
    assert expected.items() <= s3_options({**KEYS, **given}, {})["client_options"].items()


def test_certificates(tmp_path: Any) -> None:
    (tmp_path / "ca.pem").write_bytes(b"certificate")
    options = s3_options({**KEYS, "vfs.s3.ca_file": str(tmp_path / "ca.pem")}, {})
    assert options["client_options"]["root_certificate"] == b"certificate"
    with pytest.raises(Declined, match="ca_file cannot be read"):
        s3_options({**KEYS, "vfs.s3.ca_file": str(tmp_path / "none.pem")}, {})


def test_other_clouds() -> None:
    assert gcs_options({"vfs.gcs.service_account_key": "k"}) == {"service_account_key": "k"}
    given = {"vfs.azure.storage_account_name": "n", "vfs.azure.storage_account_key": "k"}
    assert azure_options(given) == {"account_name": "n", "account_key": "k"}


@pytest.mark.parametrize("name", sorted(name for name, known in SETTINGS.items() if known == TILEDB))
def test_left_to_tiledb(name: str) -> None:
    with pytest.raises(Declined, match=name):
        check_settings({name: "something"})
    check_settings({name: ""})


def test_the_environment_means_the_same_in_both() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
    options = s3_options({}, {**environ, "AWS_REGION": "eu-west-1"})
    assert (options["access_key_id"], options["session_token"], options["region"]) == ("id", "token", "eu-west-1")
    with pytest.raises(Declined, match="profile or role"):
        s3_options({}, {})
    with pytest.raises(Declined, match="session token is of another key"):
        s3_options(KEYS, environ)
    with pytest.raises(Declined, match="names an endpoint"):
        s3_options(KEYS, {"AWS_ENDPOINT_URL": "http://there"})


@pytest.mark.parametrize("uri", ["tiledb://me/array", "hdfs://there/array", "mem://array"])
def test_other_addresses(uri: str) -> None:
    with pytest.raises(Declined, match="are read by TileDB alone"):
        open_fragments(uri, {})

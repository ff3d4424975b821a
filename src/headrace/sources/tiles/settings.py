"""What becomes of each of TileDB's settings when its files are read by obstore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .generic import Declined, require

SAME = "obstore is given the same"
NONE = "of no meaning for reading tiles"
TILEDB = "TileDB reads if it is set"

SETTINGS: dict[str, str] = {
    "vfs.azure.blob_endpoint": TILEDB,
    "vfs.azure.block_list_block_size": NONE,  # writes
    "vfs.azure.is_data_lake_endpoint": NONE,  # the same blobs are there
    "vfs.azure.max_parallel_ops": NONE,  # decided by what is measured
    "vfs.azure.max_retries": NONE,
    "vfs.azure.max_retry_delay_ms": NONE,
    "vfs.azure.retry_delay_ms": NONE,
    "vfs.azure.storage_account_key": SAME,
    "vfs.azure.storage_account_name": SAME,
    "vfs.azure.storage_account_sas_token": TILEDB,
    "vfs.azure.storage_sas_token": TILEDB,
    "vfs.azure.use_block_list_upload": NONE,
    "vfs.azure.use_https": TILEDB,
    "vfs.file.max_parallel_ops": NONE,
    "vfs.file.posix_directory_permissions": NONE,
    "vfs.file.posix_file_permissions": NONE,
    "vfs.gcs.endpoint": TILEDB,
    "vfs.gcs.impersonate_service_account": TILEDB,
    "vfs.gcs.max_direct_upload_size": NONE,
    "vfs.gcs.max_parallel_ops": NONE,
    "vfs.gcs.multi_part_size": NONE,
    "vfs.gcs.project_id": NONE,  # a name for new buckets
    "vfs.gcs.request_timeout_ms": NONE,
    "vfs.gcs.service_account_key": SAME,
    "vfs.gcs.use_multi_part_upload": NONE,
    "vfs.gcs.workload_identity_configuration": TILEDB,
    "vfs.log_operations": NONE,
    "vfs.max_batch_size": NONE,  # how TileDB joins ranges
    "vfs.min_batch_gap": NONE,
    "vfs.min_batch_size": NONE,
    "vfs.min_parallel_size": NONE,
    "vfs.read_ahead_cache_size": NONE,
    "vfs.read_ahead_size": NONE,
    "vfs.read_logging_mode": NONE,
    "vfs.s3.aws_access_key_id": SAME,
    "vfs.s3.aws_external_id": TILEDB,
    "vfs.s3.aws_load_frequency": TILEDB,
    "vfs.s3.aws_role_arn": TILEDB,
    "vfs.s3.aws_secret_access_key": SAME,
    "vfs.s3.aws_session_name": TILEDB,
    "vfs.s3.aws_session_token": SAME,
    "vfs.s3.bucket_canned_acl": NONE,
    "vfs.s3.ca_file": SAME,
    "vfs.s3.ca_path": TILEDB,
    "vfs.s3.config_source": TILEDB,
    "vfs.s3.connect_max_tries": SAME,
    "vfs.s3.connect_scale_factor": NONE,  # how long TileDB waits between tries
    "vfs.s3.connect_timeout_ms": SAME,
    "vfs.s3.custom_headers": TILEDB,
    "vfs.s3.endpoint_override": SAME,
    "vfs.s3.install_sigpipe_handler": NONE,
    "vfs.s3.logging_level": NONE,
    "vfs.s3.max_parallel_ops": NONE,
    "vfs.s3.multipart_part_size": NONE,
    "vfs.s3.no_sign_request": SAME,
    "vfs.s3.object_canned_acl": NONE,
    "vfs.s3.proxy_host": SAME,
    "vfs.s3.proxy_password": SAME,
    "vfs.s3.proxy_port": SAME,
    "vfs.s3.proxy_scheme": SAME,
    "vfs.s3.proxy_username": SAME,
    "vfs.s3.region": SAME,
    "vfs.s3.request_timeout_ms": SAME,  # without a byte: TileDB's as well as obstore's `read_timeout`
    "vfs.s3.requester_pays": SAME,
    "vfs.s3.scheme": SAME,
    "vfs.s3.skip_init": NONE,
    "vfs.s3.sse": NONE,  # writes
    "vfs.s3.sse_kms_key_id": NONE,
    "vfs.s3.storage_class": NONE,
    "vfs.s3.use_multipart_upload": NONE,
    "vfs.s3.use_virtual_addressing": SAME,
    "vfs.s3.verify_ssl": SAME,
}  # fmt: skip
"""Every `vfs.*` setting of TileDB 2.13 to 2.30."""

LEAST_READ_TIMEOUT_MS = 30_000
"""Without a byte; many requests share a slow line, so that one of them may wait long."""

_SSL = ("ssl.ca_file", "ssl.ca_path", "ssl.verify")


def check_settings(config: Mapping[str, str]) -> None:
    """Decline if a setting changes what TileDB reads in a way that is not followed here."""
    for name, value in config.items():
        if name.startswith("vfs."):
            known = SETTINGS.get(name, TILEDB)
            require(known != TILEDB or not value, f"the setting {name} is one that only TileDB follows")
        require(not (name.startswith("sm.encryption") and value), "a key to decrypt it is given")
        require(name not in _SSL, f"the setting {name} is one that only TileDB follows")


def s3_options(config: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return obstore's arguments for what TileDB would do, given its settings and the environment."""

    def setting(name: str, default: str = "") -> str:
        return config.get(f"vfs.s3.{name}", default)

    virtual = setting("use_virtual_addressing", "true") == "true"
    options: dict[str, Any] = {"virtual_hosted_style_request": virtual}
    region = setting("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    scheme, endpoint = setting("scheme", "https"), setting("endpoint_override")
    if endpoint:
        require(not virtual, "buckets as subdomains of an endpoint of one's own are read by TileDB alone")
        options["endpoint"] = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
    elif any(name in environ for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")):
        raise Declined("the environment names an endpoint of S3, which is read by TileDB alone")
    if setting("no_sign_request") == "true":
        options["skip_signature"] = True
    else:
        options |= _credentials(setting("aws_access_key_id"), setting("aws_secret_access_key"),
                                setting("aws_session_token"), environ)  # fmt: skip
    if setting("requester_pays") == "true":
        options["request_payer"] = True
    options["client_options"] = _client_options(setting, scheme)
    options["retry_config"] = {"max_retries": int(setting("connect_max_tries", "5"))}  # and then ours, in the store
    return options


def _credentials(key: str, secret: str, token: str, environ: Mapping[str, str]) -> dict[str, str]:
    if key and not token:
        require("AWS_SESSION_TOKEN" not in environ, "the environment's session token is of another key")
    if not key:
        key, secret = environ.get("AWS_ACCESS_KEY_ID", ""), environ.get("AWS_SECRET_ACCESS_KEY", "")
        token = environ.get("AWS_SESSION_TOKEN", "")
    require(bool(key and secret), "requests are signed with a profile or role, which TileDB looks up")
    found = {"access_key_id": key, "secret_access_key": secret}
    return found | ({"session_token": token} if token else {})


def _client_options(setting: Any, scheme: str) -> dict[str, Any]:
    """Return how to connect: time-outs, certificates, proxy."""
    # a request as a whole may take as long as the line needs; only silence ends it
    options: dict[str, Any] = {"allow_http": scheme == "http", "timeout": "1h"}
    options["connect_timeout"] = f"{setting('connect_timeout_ms', '10800')}ms"
    options["read_timeout"] = f"{max(LEAST_READ_TIMEOUT_MS, int(setting('request_timeout_ms', '3000')))}ms"
    if setting("verify_ssl", "true") == "false":
        options["allow_invalid_certificates"] = True
    if setting("ca_file"):
        try:
            options["root_certificate"] = Path(setting("ca_file")).read_bytes()
        except OSError as error:
            raise Declined(f"vfs.s3.ca_file cannot be read ({error.strerror})") from None
    if setting("proxy_host"):
        from urllib.parse import quote

        user = setting("proxy_username")
        login = f"{quote(user, safe='')}:{quote(setting('proxy_password'), safe='')}@" if user else ""
        port = setting("proxy_port", "0")
        where = setting("proxy_host") + (f":{port}" if port not in ("", "0") else "")
        options["proxy_url"] = f"{setting('proxy_scheme', 'http')}://{login}{where}"
    return options


def gcs_options(config: Mapping[str, str]) -> dict[str, Any]:
    """Return obstore's arguments for Google Cloud Storage."""
    key = config.get("vfs.gcs.service_account_key")
    return {"service_account_key": key} if key else {}


def azure_options(config: Mapping[str, str]) -> dict[str, Any]:
    """Return obstore's arguments for Azure."""
    names = {"account_name": "storage_account_name", "account_key": "storage_account_key"}
    return {ours: config[f"vfs.azure.{theirs}"] for ours, theirs in names.items() if config.get(f"vfs.azure.{theirs}")}

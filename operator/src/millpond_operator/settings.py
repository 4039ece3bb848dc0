"""The operator's settings, read from the environment once at start; a wrong one stops it with a sentence."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables `MILLPOND_…` (and the downward API's POD_NAME, POD_NAMESPACE)."""

    model_config = SettingsConfigDict(env_prefix="MILLPOND_", populate_by_name=True)

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="Where the operator reaches NATS.")
    worker_nats_url: str = Field(default="", description="The URL given to workers; the operator's own when empty.")
    watch_namespace: str = Field(default="", description="One namespace, or empty for the whole cluster.")
    pod_name: str = Field(default="millpond-operator", validation_alias="POD_NAME")
    pod_namespace: str = Field(default="default", validation_alias="POD_NAMESPACE")
    lease_name: str = Field(default="millpond-operator", description="The leader's Lease, in the operator's namespace.")
    lease_seconds: float = Field(default=10.0, ge=3.0, description="A leader that is gone is replaced after this.")
    http_host: str = Field(default="0.0.0.0", description="Address of /healthz, /readyz and /metrics.")
    http_port: int = Field(default=8080, ge=0, le=65535, description="0 switches the HTTP server off.")
    log_format: Literal["json", "console"] = "json"
    tick_seconds: float = Field(default=1.0, gt=0, description="How often all queues are read.")
    push_wake: bool = Field(default=True, description="False leaves pools at zero to the tick (to compare).")
    resync_seconds: float = Field(default=30.0, gt=0, description="How often everything is listed and compared.")
    rescue_seconds: float = Field(
        default=45.0,
        gt=0,
        description="A task that is neither queued nor running anywhere is submitted again after this.",
    )
    stream_storage: Literal["file", "memory"] = "file"
    stream_replicas: int = Field(default=1, ge=1, le=5)
    kubeconfig: str = Field(default="", description="For a run outside the cluster; in a pod the token is used.")

    @property
    def url_for_workers(self) -> str:
        return self.worker_nats_url or self.nats_url

"""Settings of files and batches: where they are kept, and how much of them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from extracot_server.config.setting_values import PlainPath


class BatchSettings(BaseModel):
    """What the server's settings say of batches. Without a folder there are none."""

    batch_folder: PlainPath = Field(
        None,
        description="folder for files and batches (/v1/files, /v1/batches); without it there are "
        "none. Several processes may share it: one of them runs the batches",
    )
    batch_concurrency: int = Field(
        16, ge=1, le=4096, description="most lines of batches that run at once"
    )
    batch_max_lines: int = Field(50_000, ge=1, description="most lines of a batch")
    batch_max_file_bytes: int = Field(
        200 * 2**20, ge=1024, description="larger files are refused (413)"
    )
    batch_key_bytes: int = Field(
        2 * 2**30,
        ge=1024,
        description="most bytes of files, results and records included, that a key may keep",
    )
    batch_key_files: int = Field(1000, ge=1, description="most files that a key may keep")
    batch_key_batches: int = Field(
        1000,
        ge=1,
        description="most batches that a key may keep; ended ones without results make room",
    )
    batch_key_active: int = Field(
        20, ge=1, description="most batches of a key that have not ended yet"
    )
    batch_folder_bytes: int = Field(
        20 * 2**30, ge=1024, description="most bytes of that kind of all keys together"
    )
    batch_keep_days: float = Field(
        30.0, gt=0, le=3650, description="files and ended batches are deleted after so many days"
    )

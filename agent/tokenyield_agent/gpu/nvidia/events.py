"""What goes wrong in a GPU and is only counted: XID events, ECC errors, remapped rows, faulty links.

In: GPUs' handles. Out: how often each happened since it was last read, by name. Counters of the driver are read in
one call every `EVERY_S`; XIDs come from the driver's event queue, which is emptied at every poll without waiting.

Names and field numbers: nvml.h, "Field Identifiers". A counter that went back was reset with the driver, and counts
from 0 again.
"""

import logging
from collections import defaultdict
from typing import Any

import pynvml as nvml

log = logging.getLogger(__name__)

EVERY_S = 30.0
EVENTS_MAX = 64
"""XIDs taken at one poll; a GPU that falls off the bus reports hundreds, and those left come at the next."""

COUNTERS = {
    "ecc_corrected": nvml.NVML_FI_DEV_ECC_SBE_VOL_TOTAL,
    "ecc_uncorrected": nvml.NVML_FI_DEV_ECC_DBE_VOL_TOTAL,
    "row_remapped_corrected": nvml.NVML_FI_DEV_REMAPPED_COR,
    "row_remapped_uncorrected": nvml.NVML_FI_DEV_REMAPPED_UNC,
    "row_remap_failed": nvml.NVML_FI_DEV_REMAPPED_FAILURE,
    "nvlink_crc_flit": nvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL,
    "nvlink_crc_data": nvml.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL,
    "nvlink_replay": nvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL,
    "nvlink_recovery": nvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
    "pcie_replay": nvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER,
}


class ErrorCounters:
    """The driver's error counters of one GPU. Their first values are not counted: those errors were before us."""

    def __init__(self) -> None:
        self._fields = dict(COUNTERS)
        self._before: dict[str, int] = {}
        self._due_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """`now_s` is monotonic."""
        return bool(self._fields) and now_s >= self._due_s

    def read(self, handle: Any, now_s: float) -> dict[str, int]:
        """Name -> by how much it grew since the last call, of those that this GPU has. Raises NVMLError."""
        self._due_s = now_s + EVERY_S
        values = nvml.nvmlDeviceGetFieldValues(handle, list(self._fields.values()))
        grown = {}
        for name, value in zip(list(self._fields), values, strict=True):
            if value.nvmlReturn == nvml.NVML_ERROR_NOT_SUPPORTED:
                del self._fields[name]
            if value.nvmlReturn != nvml.NVML_SUCCESS:
                continue
            total = field_number(value)
            before = self._before.get(name, total)
            if amount := total - before if total >= before else total:
                grown[name] = amount
            self._before[name] = total
        return grown


class XidEvents:
    """The driver's queue of critical errors."""

    def __init__(self) -> None:
        self._event_set: Any = None

    def watch(self, handles: dict[str, Any]) -> None:
        """From now on, of these GPUs (uuid -> handle). GPUs that do not report XIDs are left out."""
        try:
            self._event_set = nvml.nvmlEventSetCreate()
        except nvml.NVMLError as error:
            log.info("XIDs are not reported here: %s", error)
            return
        for uuid, handle in handles.items():
            try:
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._event_set)
            except nvml.NVMLError as error:
                log.info("gpu=%s XIDs are not reported: %s", uuid, error)

    def read(self) -> dict[str, dict[str, int]]:
        """uuid -> `xid_N` -> how often."""
        counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for _ in range(EVENTS_MAX if self._event_set is not None else 0):
            try:
                event = nvml.nvmlEventSetWait_v2(self._event_set, 0)
                uuid = str(nvml.nvmlDeviceGetUUID(event.device))
            except nvml.NVMLError as error:
                if error.value != nvml.NVML_ERROR_TIMEOUT:
                    log.debug("XIDs: %s", error)
                break
            log.warning("gpu=%s XID %d", uuid, event.eventData)
            counts[uuid][f"xid_{int(event.eventData)}"] += 1
        return counts

    def close(self) -> None:
        if self._event_set is not None:
            try:
                nvml.nvmlEventSetFree(self._event_set)
            except nvml.NVMLError as error:
                log.debug("nvmlEventSetFree: %s", error)
        self._event_set = None


def field_number(value: Any) -> int:
    """A field value, whatever its type."""
    name = {
        nvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
        nvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
        nvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    }.get(value.valueType, "ullVal")
    return int(getattr(value.value, name))

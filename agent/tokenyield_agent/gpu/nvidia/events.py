"""What goes wrong in a GPU and is only counted: XID events, ECC errors, remapped rows, faulty links.

In: GPUs' handles. Out: how often each happened since it was last read, by name. Counters of the driver are read in
one call every `EVERY_S`; XIDs come from the driver's event queue, which is emptied at every poll without waiting.

Names and field numbers: nvml.h, "Field Identifiers". A counter that went back was reset with the driver, and counts
from 0 again. What no GPU can have is not counted: a counter that grew by more than `GROWTH_MAX`, an event of another
kind; an XID above `XID_MAX` is `xid_other`.
"""

import ctypes
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pynvml as nvml

from tokenyield_agent.gpu.nvidia.faults import ABSENT

log = logging.getLogger(__name__)

EVERY_S = 30.0
EVENTS_MAX = 64
"""XIDs taken at one poll; a GPU that falls off the bus reports hundreds, and those left come at the next."""

XID_MAX = 999
"""NVIDIA has numbered fewer than 200."""
GROWTH_MAX = 2**32
"""Of an error counter between two readings: a link at 10^8 errors a second for 30 s is below it."""

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
_VALUE_NAMES = {
    nvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    nvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    nvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    nvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    nvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
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
            if total is None:
                continue
            before = self._before.get(name, total)
            amount = total - before if total >= before else total
            if amount > GROWTH_MAX:
                continue  # what it stood at before is still the better base
            if amount:
                grown[name] = amount
            self._before[name] = total
        return grown


class XidEvents:
    """The driver's queue of critical errors."""

    def __init__(self) -> None:
        self._event_set: Any = None
        self._uuids: dict[int, str] = {}
        """Address of a GPU's handle -> its uuid: a lost GPU does not give it any more."""
        self._watched: set[str] = set()
        self._waiting: dict[str, Any] = {}
        """uuid -> handle of watched GPUs that could not be registered and may later."""
        self._register_at_s = 0.0

    def watch(self, handles: Mapping[str, Any], now_s: float) -> None:
        """From now on, of these GPUs (uuid -> handle) too. GPUs that do not report XIDs are left out. `now_s` is
        monotonic."""
        self._uuids |= {_address(handle): uuid for uuid, handle in handles.items()}
        self._watched |= handles.keys()
        self._waiting |= handles
        self._register(now_s)

    def _register(self, now_s: float) -> None:
        self._register_at_s = now_s + EVERY_S
        try:
            self._event_set = self._event_set or nvml.nvmlEventSetCreate()
        except nvml.NVMLError as error:
            log.debug("XIDs are not reported here: %s", error)
            return
        for uuid, handle in list(self._waiting.items()):
            try:
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._event_set)
            except nvml.NVMLError as error:
                if error.value not in ABSENT:
                    continue  # until it is well again
                log.info("gpu=%s XIDs are not reported: %s", uuid, error)
            del self._waiting[uuid]

    def read(self, handles: Mapping[str, Any], now_s: float) -> dict[str, dict[str, int]]:
        """uuid -> `xid_N` -> how often. `handles`: the GPUs that are well. A queue that fails, as it does while a GPU
        of it is lost, is made anew with those."""
        if new := handles.keys() - self._watched:
            self.watch({uuid: handles[uuid] for uuid in new}, now_s)
        elif self._waiting and now_s >= self._register_at_s:
            self._register(now_s)
        counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for _ in range(EVENTS_MAX if self._event_set is not None else 0):
            try:
                event = nvml.nvmlEventSetWait_v2(self._event_set, 0)
            except nvml.NVMLError as error:
                is_due = now_s >= self._register_at_s or handles.keys() != self._watched
                if error.value != nvml.NVML_ERROR_TIMEOUT and is_due:
                    log.info("the queue of XIDs failed (%s) and is made anew", error)
                    self._free()
                    self.watch(handles, now_s)
                break
            uuid, xid = self._uuids.get(_address(event.device)), int(event.eventData)
            if uuid is None or event.eventType != nvml.nvmlEventTypeXidCriticalError:
                log.debug("gpu=%s an event of unknown type %d: %d", uuid, event.eventType, xid)
                continue
            log.warning("gpu=%s XID %d", uuid, xid)
            counts[uuid][f"xid_{xid}" if xid <= XID_MAX else "xid_other"] += 1
        return counts

    def close(self) -> None:
        """Handles are void after it."""
        self._free()
        self._uuids.clear()

    def _free(self) -> None:
        if self._event_set is not None:
            try:
                nvml.nvmlEventSetFree(self._event_set)
            except nvml.NVMLError as error:
                log.debug("nvmlEventSetFree: %s", error)
        self._event_set = None
        self._watched.clear()
        self._waiting.clear()


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def field_number(value: Any) -> int | None:
    """A field value, whatever its type; None where it is no amount."""
    number = getattr(value.value, _VALUE_NAMES.get(value.valueType, "ullVal"))
    return int(number) if 0 <= number < 2**64 else None

"""Thermal guard of long trainings: a warning from 70 C, a pause from 85 C, a stop from 95 C.

A temperature that cannot be read is `unknown`. It is reported once, is not treated as normal, and
never stops a training.
"""

import ctypes
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import psutil

Band = Literal["normal", "watch", "pause", "critical", "unknown"]

WATCH, PAUSE, CRITICAL = 70.0, 85.0, 95.0
CREDIBLE = (0.0, 150.0)  # a dead or unconnected sensor reads outside of these
CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
LAST_RESORT = ("acpitz",)  # the zone of the firmware, on some boards far from the CPU
PRESSURE: dict[str, Band] = {  # libkern/OSThermalNotification.h, the levels of macOS
    "Nominal": "normal",
    "Moderate": "watch",
    "Heavy": "pause",
    "Trapping": "critical",
    "Sleeping": "critical",
}
POWERMETRICS = ("powermetrics", "-n", "1", "-i", "1", "--samplers", "thermal")
TIMEOUT = 5.0  # seconds for powermetrics
UNKNOWN_POLLS = 30  # consecutive unknown readings that end a pause
STOP_POLL = 1.0  # seconds between two checks for a stop request in a pause


@dataclass(frozen=True)
class Reading:
    """Reading of a sensor: a temperature, or a level where the machine reports no degrees."""

    celsius: float | None = None
    level: str | None = None

    def __str__(self) -> str:
        if self.celsius is not None:
            return f"{self.celsius:.1f} C"
        return "temperature unknown" if self.level is None else f"thermal pressure {self.level}"


UNKNOWN = Reading()
Sensor = Callable[[], Reading]


def band(reading: Reading) -> Band:
    """Return the band of a reading; incredible temperatures and other levels are unknown."""
    if reading.level is not None:
        return PRESSURE.get(reading.level, "unknown")
    if reading.celsius is None or not _is_credible(reading.celsius):
        return "unknown"
    if reading.celsius < WATCH:
        return "normal"
    if reading.celsius < PAUSE:
        return "watch"
    return "pause" if reading.celsius < CRITICAL else "critical"


def sensor_for(device: str) -> Sensor:
    """Return the sensor of a training device; it never raises.

    It reads NVIDIA GPUs through NVML for `cuda`, else `powermetrics` on macOS (as root) and hwmon
    on Linux.
    """
    if device.startswith("cuda"):
        return partial(read, _gpu)
    return partial(read, _pressure if sys.platform == "darwin" else _cpu)


def read(sensor: Sensor) -> Reading:
    """Return the reading of a sensor; an unknown one where the sensor raises any exception."""
    try:
        return sensor()
    except Exception:
        return UNKNOWN


class Guard:
    """Guard that reads a sensor between optimiser steps and pauses until a hot machine is cool.

    Parameters
    ----------
    sensor
        The sensor, e.g. `sensor_for("cpu")`.
    report
        Receives one line when the training enters the band watch, enters or leaves a pause, has to
        stop, or cannot be guarded.
    interval
        Least number of seconds between two readings.
    clock, sleep
        Monotonic clock in seconds, and the function that waits.

    Attributes
    ----------
    celsius
        Last temperature; None where it is unknown or the machine reports only levels.
    paused_seconds
        Seconds spent in pauses so far.
    """

    def __init__(
        self,
        sensor: Sensor,
        report: Callable[[str], None],
        *,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.celsius: float | None = None
        self.paused_seconds = 0.0
        self._sensor, self._interval = sensor, interval
        self._report, self._clock, self._sleep = report, clock, sleep
        self._read_at = -math.inf
        self._reading = UNKNOWN
        self._band: Band = "unknown"
        self._unknown_reported = False

    def check(self, stopped: Callable[[], bool]) -> Band:
        """Return the current band, after a pause if one was needed.

        At `critical` the caller must save its state and stop. `pause` is returned only where
        `stopped` ended a pause early.
        """
        if not self._due():
            return self._band
        before, self._band = self._band, self._read()
        if self._band == "pause":
            self._band = self._pause(stopped)
        elif self._band == "watch" != before:
            self._report(f"{self._reading}: watched, pauses from {PAUSE:.0f} C")
        if self._band == "critical":
            self._report(f"{self._reading}: too hot, training stops")
        return self._band

    def _pause(self, stopped: Callable[[], bool]) -> Band:
        """Wait until the band is normal, critical or long unknown, or until `stopped`.

        After a sensor has failed, the pause goes on for `UNKNOWN_POLLS` readings: some minutes
        without load, which cool any machine that works.
        """
        started, unknown = self._clock(), 0
        found: Band = "pause"
        self._report(f"{self._reading}: paused until below {WATCH:.0f} C")
        while found not in ("normal", "critical") and unknown < UNKNOWN_POLLS:
            if stopped():
                found = "pause"
                break
            self._sleep(min(STOP_POLL, self._interval))
            if self._due():
                found = self._read()
                unknown = unknown + 1 if found == "unknown" else 0
        seconds = self._clock() - started
        self.paused_seconds += seconds
        self._report(f"{self._reading}: pause left after {seconds:.0f} s")
        return found

    def _due(self) -> bool:
        return self._clock() - self._read_at >= self._interval

    def _read(self) -> Band:
        self._reading = read(self._sensor)
        self._read_at = self._clock()
        found = band(self._reading)
        if found == "unknown":
            self._reading = UNKNOWN
            if not self._unknown_reported:
                self._report("temperature unknown: no sensor can be read, heat is not guarded")
            self._unknown_reported = True
        self.celsius = self._reading.celsius
        return found


def _is_credible(celsius: float) -> bool:
    return CREDIBLE[0] < celsius < CREDIBLE[1]  # false for NaN


def _hottest(temperatures: Iterable[float]) -> Reading:
    return Reading(max(filter(_is_credible, temperatures), default=None))


def _cpu() -> Reading:
    """Return the hottest CPU sensor of hwmon; the zone of the firmware only if there is no other.

    `Tctl` controls the fans and is, on some AMD models, up to 27 C above the temperature of the
    die. Where `Tdie`, the temperature of the die, can be read, `Tctl` is ignored (kernel
    documentation, hwmon/k10temp).
    """
    chips = psutil.sensors_temperatures()
    reading = UNKNOWN
    for names in (CPU_CHIPS, LAST_RESORT):
        if reading == UNKNOWN:
            sensors = [sensor for name in names for sensor in chips.get(name, [])]
            die_known = any(s.label == "Tdie" and _is_credible(s.current) for s in sensors)
            reading = _hottest(s.current for s in sensors if not (die_known and s.label == "Tctl"))
    return reading


def _gpu() -> Reading:
    """Return the hottest NVIDIA GPU; NVML numbers GPUs differently from CUDA, so all are read.

    Raises
    ------
    OSError
        NVML is not installed, or one of the GPUs cannot be read.
    """
    library = _nvml()
    count = ctypes.c_uint()
    _succeed(library.nvmlDeviceGetCount_v2(ctypes.byref(count)))
    temperatures = []
    for index in range(count.value):
        handle, celsius = ctypes.c_void_p(), ctypes.c_uint()
        _succeed(library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)))
        _succeed(library.nvmlDeviceGetTemperature(handle, 0, ctypes.byref(celsius)))
        temperatures.append(float(celsius.value))
    return _hottest(temperatures)


@cache
def _nvml() -> ctypes.CDLL:
    library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    _succeed(library.nvmlInit_v2())
    return library


def _succeed(code: int) -> None:
    if code != 0:
        raise OSError(f"NVML error {code}")


def _pressure() -> Reading:
    """Return the thermal pressure of macOS.

    Raises
    ------
    OSError, subprocess.SubprocessError
        `powermetrics` is missing, hangs, or was not run as root.
    """
    done = subprocess.run(POWERMETRICS, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    found = re.search(r"Current pressure level: (\w+)", done.stdout)
    return Reading(level=found[1]) if found else UNKNOWN

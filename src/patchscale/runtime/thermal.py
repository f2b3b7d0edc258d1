"""A thermal guard for long trainings: watch at 70 C, pause at 85 C, stop at 95 C.

What cannot be read is `unknown`: said once, never counted as normal, never a reason to stop.
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
ABSURD = (0.0, 150.0)  # what a dead or unconnected sensor says: not between these
CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
LAST_RESORT = ("acpitz",)  # the firmware's zone, on some boards far from the CPU
PRESSURE: dict[str, Band] = {  # libkern/OSThermalNotification.h, the levels of macOS
    "Nominal": "normal",
    "Moderate": "watch",
    "Heavy": "pause",
    "Trapping": "critical",
    "Sleeping": "critical",
}
POWERMETRICS = ("powermetrics", "-n", "1", "-i", "1", "--samplers", "thermal")
TIMEOUT = 5.0  # seconds for powermetrics
UNKNOWN_POLLS = 30  # unknown readings in a row that end a pause
STOP_POLL = 1.0  # seconds between looks for a stop request in a pause


@dataclass(frozen=True)
class Reading:
    """A temperature, or a level where the machine tells no degrees, or neither."""

    celsius: float | None = None
    level: str | None = None

    def __str__(self) -> str:
        if self.celsius is not None:
            return f"{self.celsius:.1f} C"
        return "temperature unknown" if self.level is None else f"thermal pressure {self.level}"


UNKNOWN = Reading()
Sensor = Callable[[], Reading]


def band(reading: Reading) -> Band:
    """Return the band of a reading; absurd temperatures and unheard-of levels are unknown."""
    if reading.level is not None:
        return PRESSURE.get(reading.level, "unknown")
    if reading.celsius is None or not _plausible(reading.celsius):
        return "unknown"
    if reading.celsius < WATCH:
        return "normal"
    if reading.celsius < PAUSE:
        return "watch"
    return "pause" if reading.celsius < CRITICAL else "critical"


def sensor_for(device: str) -> Sensor:
    """Return the sensor of what heats up when training on `device`; it never raises.

    NVIDIA GPUs through NVML for `cuda`, else `powermetrics` on macOS (as root) and hwmon on Linux.
    """
    if device.startswith("cuda"):
        return partial(read, _gpu)
    return partial(read, _pressure if sys.platform == "darwin" else _cpu)


def read(sensor: Sensor) -> Reading:
    """Return what `sensor` reads; whatever it raises is an unknown reading."""
    try:
        return sensor()
    except Exception:
        return UNKNOWN


class Guard:
    """Reads a sensor between optimiser steps and lets a hot machine cool down.

    Parameters
    ----------
    sensor
        What to read, e.g. `sensor_for("cpu")`.
    report
        Receives one line where the training enters watch, enters or leaves a pause, is to stop,
        or cannot be guarded.
    interval
        Fewest seconds between two readings.
    clock, sleep
        Seconds that only go forward, and how to wait for some.

    Attributes
    ----------
    celsius
        The last temperature; None where it is unknown or the machine tells only levels.
    paused_seconds
        Time spent in pauses so far.
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
        self._said_unknown = False

    def check(self, stopped: Callable[[], bool]) -> Band:
        """Return the current band, after a pause where one was needed.

        `critical` asks the caller to save its state and stop. `pause` comes back only from a
        pause that `stopped` cut short.
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
        """Wait until the machine is cool, critical or silent, or until `stopped`.

        A sensor that falls silent says nothing about the heat that led here, so the pause goes on
        for `UNKNOWN_POLLS` readings: minutes without load, which cool any machine that works.
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
            if not self._said_unknown:
                self._report("temperature unknown: no sensor can be read, heat is not guarded")
            self._said_unknown = True
        self.celsius = self._reading.celsius
        return found


def _plausible(celsius: float) -> bool:
    return ABSURD[0] < celsius < ABSURD[1]  # NaN is not


def _hottest(temperatures: Iterable[float]) -> Reading:
    return Reading(max(filter(_plausible, temperatures), default=None))


def _cpu() -> Reading:
    """Return the hottest CPU sensor of hwmon, the firmware's zone only where there is no other.

    `Tctl` is a value for the fans, on some AMD models up to 27 C above the die: where the die's own
    `Tdie` is there, it counts instead (kernel documentation, hwmon/k10temp).
    """
    chips = psutil.sensors_temperatures()
    reading = UNKNOWN
    for names in (CPU_CHIPS, LAST_RESORT):
        if reading == UNKNOWN:
            sensors = [sensor for name in names for sensor in chips.get(name, [])]
            die_known = any(s.label == "Tdie" and _plausible(s.current) for s in sensors)
            reading = _hottest(s.current for s in sensors if not (die_known and s.label == "Tctl"))
    return reading


def _gpu() -> Reading:
    """Return the hottest NVIDIA GPU: NVML's numbering is not CUDA's, so any may be the one in use.

    Raises
    ------
    OSError
        There is no NVML, or one of the GPUs cannot be read.
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
    """Return macOS's thermal pressure.

    Raises
    ------
    OSError, subprocess.SubprocessError
        `powermetrics` is missing, hangs, or is not run as root.
    """
    done = subprocess.run(POWERMETRICS, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    found = re.search(r"Current pressure level: (\w+)", done.stdout)
    return Reading(level=found[1]) if found else UNKNOWN

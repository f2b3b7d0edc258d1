"""Bands, pauses and sensors of the thermal guard."""

import ctypes
import math
import os
import subprocess
import sys
from collections import namedtuple

import psutil
import pytest

from patchscale.runtime import thermal
from patchscale.runtime.thermal import (
    UNKNOWN,
    UNKNOWN_POLLS,
    Guard,
    Reading,
    _nvml,
    band,
    sensor_for,
)

Chip = namedtuple("Chip", "label current high critical")  # fields of psutil's shwtemp


class Bench:
    """A guard with a simulated clock and a list of readings.

    Only sleeping and the test advance the clock. The last reading is repeated. An exception in the
    list is raised.
    """

    def __init__(self, *readings, interval=10.0):
        self.readings, self.lines, self.now, self.reads = list(readings), [], 0.0, []
        self.stop_at = math.inf
        self.guard = Guard(
            self.sensor, self.lines.append, interval=interval, clock=self.clock, sleep=self.sleep
        )

    def sensor(self):
        self.reads.append(self.now)
        found = self.readings[0] if len(self.readings) == 1 else self.readings.pop(0)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Reading) else Reading(found)

    def clock(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds
        assert self.now < 10_000, "the pause does not end"

    def stopped(self):
        return self.now >= self.stop_at

    def check(self, after=10.0):
        found = self.guard.check(self.stopped)
        self.now += after
        return found


@pytest.mark.parametrize(
    ("celsius", "expected"),
    [
        (0.1, "normal"),
        (69.9, "normal"),
        (70, "watch"),
        (84.9, "watch"),
        (85, "pause"),
        (94.9, "pause"),
        (95, "critical"),
        (149.9, "critical"),
        (math.nan, "unknown"),
        (math.inf, "unknown"),
        (-math.inf, "unknown"),
        (0, "unknown"),
        (-273, "unknown"),
        (150, "unknown"),
        (200, "unknown"),
        (None, "unknown"),
    ],
)
def test_the_bands_begin_at_70_85_and_95_degrees(celsius, expected):
    assert band(Reading(celsius)) == expected


def test_nothing_is_reported_of_a_cool_machine():
    bench = Bench(41.5)
    assert [bench.check() for _ in range(3)] == ["normal"] * 3
    assert (bench.lines, bench.guard.celsius, bench.guard.paused_seconds) == ([], 41.5, 0)


def test_the_sensor_is_read_at_most_once_an_interval():
    bench = Bench(50.0, 75.0, interval=10.0)
    found = [bench.check(after=0.5) for _ in range(41)]
    assert bench.reads == [0.0, 10.0, 20.0]
    assert found == ["normal"] * 20 + ["watch"] * 21


def test_the_band_watch_is_reported_when_it_is_entered():
    bench = Bench(60.0, 70.0, 84.9, 60.0, 71.0)
    assert [bench.check() for _ in range(5)] == ["normal", "watch", "watch", "normal", "watch"]
    assert len(bench.lines) == 2
    assert "70.0 C" in bench.lines[0]
    assert "71.0 C" in bench.lines[1]
    assert bench.guard.paused_seconds == 0


def test_a_pause_lasts_until_below_70_degrees_and_its_seconds_are_reported():
    bench = Bench(85.0, 84.9, 90.0, 70.0, 69.9)
    assert bench.check(after=0) == "normal"
    assert bench.reads == [0, 10, 20, 30, 40]
    assert bench.now == bench.guard.paused_seconds == 40
    assert bench.guard.celsius == 69.9
    assert bench.lines == [
        "85.0 C: paused until below 70 C",
        "69.9 C: pause left after 40 s",
    ]


def test_pauses_add_up():
    bench = Bench(85.0, 60.0, 86.0, 80.0, 60.0)
    assert [bench.check(), bench.check()] == ["normal", "normal"]
    assert bench.guard.paused_seconds == 30
    assert len(bench.lines) == 4


def test_95_degrees_are_critical_at_once():
    bench = Bench(60.0, 95.0)
    assert [bench.check(), bench.check(after=1), bench.check()] == ["normal", *["critical"] * 2]
    assert bench.lines == ["95.0 C: too hot, training stops"]
    assert bench.guard.paused_seconds == 0


def test_a_pause_that_heats_up_becomes_critical():
    bench = Bench(86.0, 94.9, 95.0, 60.0)
    assert bench.check(after=0) == "critical"
    assert bench.guard.paused_seconds == 20
    assert bench.guard.celsius == 95.0
    assert bench.lines[1:] == ["95.0 C: pause left after 20 s", "95.0 C: too hot, training stops"]


@pytest.mark.parametrize("later", [90.0, 75.0, None])
def test_a_stop_request_ends_a_pause_within_a_second(later):
    bench = Bench(90.0, later)
    bench.stop_at = 23.5
    assert bench.check(after=0) == "pause"
    assert 23.5 <= bench.now <= 24.5
    assert bench.guard.paused_seconds == bench.now


def test_an_earlier_stop_request_ends_a_pause_at_once():
    bench = Bench(90.0)
    bench.stop_at = 0
    assert bench.check(after=0) == "pause"
    assert bench.now == 0


def test_unknown_is_reported_once_and_is_not_normal():
    bench = Bench(None, None, math.nan, 50.0, None)
    assert [bench.check() for _ in range(5)] == [*["unknown"] * 3, "normal", "unknown"]
    assert bench.lines == ["temperature unknown: no sensor can be read, heat is not guarded"]
    assert bench.guard.celsius is None


def test_incredible_temperatures_are_not_recorded():
    bench = Bench(50.0, 200.0)
    bench.check()
    assert bench.check() == "unknown"
    assert bench.guard.celsius is None


@pytest.mark.parametrize("error", [OSError("gone"), AttributeError("no sensors"), ValueError()])
def test_a_sensor_that_raises_is_unknown(error):
    bench = Bench(error, 72.0, error)
    assert [bench.check() for _ in range(3)] == ["unknown", "watch", "unknown"]


def test_an_unknown_reading_does_not_end_a_pause():
    silent = [None] * (UNKNOWN_POLLS - 1)
    bench = Bench(90.0, *silent, 80.0, *silent, 60.0)
    assert bench.check(after=0) == "normal"
    assert bench.guard.paused_seconds == 10 * (2 * len(silent) + 2)


def test_a_sensor_that_fails_for_long_ends_a_pause_as_unknown():
    bench = Bench(90.0, OSError("gone"))
    assert bench.check() == "unknown"
    assert bench.guard.paused_seconds == 10 * UNKNOWN_POLLS
    assert bench.lines[-1] == "temperature unknown: pause left after 300 s"
    assert bench.check() == "unknown"
    assert len(bench.lines) == 3


def test_a_pause_reads_no_more_often_than_the_interval_allows():
    bench = Bench(90.0, 60.0, interval=0.25)
    bench.check(after=0)
    assert bench.reads == [0, 0.25]


def test_pressure_levels_pause_and_stop_like_temperatures():
    heavy, moderate = Reading(level="Heavy"), Reading(level="Moderate")
    bench = Bench(moderate, heavy, moderate, Reading(level="Nominal"), Reading(level="Trapping"))
    assert [bench.check() for _ in range(3)] == ["watch", "normal", "critical"]
    assert bench.guard.celsius is None
    assert bench.guard.paused_seconds == 20
    assert bench.lines[1] == "thermal pressure Heavy: paused until below 70 C"


def hwmon(monkeypatch, chips):
    monkeypatch.setattr(sys, "platform", "linux")
    found = {
        chip: [Chip(label, celsius, None, None) for label, celsius in sensors]
        for chip, sensors in chips.items()
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: found, raising=False)
    return sensor_for("cpu")()


@pytest.mark.parametrize(
    ("chips", "celsius"),
    [
        ({"coretemp": [("Package id 0", 61.0), ("Core 0", 58.0), ("Core 1", 63.0)]}, 63.0),
        ({"coretemp": [("Package id 0", 61.0), ("Package id 1", 77.0)]}, 77.0),
        ({"nvme": [("Composite", 88.0)], "coretemp": [("", 50.0)], "acpitz": [("", 99.0)]}, 50.0),
        ({"iwlwifi_1": [("", 45.0)], "acpitz": [("", 27.8), ("", 55.0)]}, 55.0),
        ({"k10temp": [("Tctl", 64.5), ("Tccd1", 60.0)]}, 64.5),
        ({"k10temp": [("Tctl", 87.0), ("Tdie", 60.0), ("Tccd1", 58.0)]}, 60.0),
        ({"k10temp": [("Tctl", 87.0), ("Tdie", 0.0)]}, 87.0),
        ({"zenpower": [("Tdie", 70.1), ("Tctl", 70.1)]}, 70.1),
        ({"cpu_thermal": [("", 48.3)]}, 48.3),
        ({"coretemp": [("a", math.nan), ("b", 52.0), ("c", 200.0), ("d", -273.0)]}, 52.0),
        ({"coretemp": [("", 0.0)], "acpitz": [("", 44.0)]}, 44.0),
        ({"coretemp": [("", math.nan), ("", 0.0), ("", 200.0)], "acpitz": [("", -273.0)]}, None),
        ({"nvme": [("Composite", 41.0)], "amdgpu": [("edge", 50.0)]}, None),
        ({"coretemp": []}, None),
        ({}, None),
    ],
)
def test_the_cpu_is_as_hot_as_its_hottest_credible_sensor(monkeypatch, chips, celsius):
    assert hwmon(monkeypatch, chips) == Reading(celsius)


def test_a_system_whose_psutil_has_no_sensors_is_unknown(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    assert sensor_for("cpu")() == UNKNOWN


@pytest.fixture
def powermetrics(tmp_path, monkeypatch):
    """Return a sensor of a Mac whose powermetrics is a script."""
    if os.name == "nt":
        pytest.skip("needs a POSIX shell")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def install(body, device="mps"):
        script = tmp_path / "powermetrics"
        script.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        script.chmod(0o755)
        return sensor_for(device)

    return install


PRINTED = """
if [ "$*" != "-n 1 -i 1 --samplers thermal" ]; then exit 64; fi
cat <<END
Machine model: MacBookPro18,3
OS version: 23F79
Boot arguments:
Boot time: Mon Jun  3 08:00:00 2024


*** Sampled system activity (Tue Jun  4 10:11:12 2024 +0200) (1.32ms elapsed) ***


**** Thermal pressure ****

Current pressure level: LEVEL
END
"""


@pytest.mark.parametrize("device", ["mps", "cpu"])
@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("Nominal", "normal"),
        ("Moderate", "watch"),
        ("Heavy", "pause"),
        ("Trapping", "critical"),
        ("Sleeping", "critical"),
        ("Other", "unknown"),
        ("", "unknown"),
    ],
)
def test_each_pressure_level_of_macos_has_a_band(powermetrics, level, expected, device):
    reading = powermetrics(PRINTED.replace("LEVEL", level), device)()
    assert reading == Reading(level=level or None)
    assert band(reading) == expected


@pytest.mark.parametrize(
    "body",
    [
        "echo 'powermetrics must be invoked as the superuser' >&2; exit 1",
        "echo 'Current pressure level: Nominal'; exit 1",
        "echo 'powermetrics: unrecognized sampler: thermal' >&2; exit 64",
        "printf '\\377\\376'",
        "exit 0",
    ],
)
def test_a_powermetrics_that_refuses_is_unknown(powermetrics, body):
    assert powermetrics(body)() == UNKNOWN


def test_a_powermetrics_that_hangs_is_unknown(powermetrics, monkeypatch):
    monkeypatch.setattr(thermal, "TIMEOUT", 0.1)
    assert powermetrics("sleep 2; echo 'Current pressure level: Nominal'")() == UNKNOWN


def test_a_mac_without_powermetrics_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sensor_for("mps")() == UNKNOWN


class Nvml:
    """A fake NVML library with one temperature, or None for an error, for each GPU."""

    def __init__(self, *temperatures, init=0, handle=0):
        self.temperatures, self.init, self.handle = temperatures, init, handle
        self.inits, self.name = 0, None

    def nvmlInit_v2(self):
        self.inits += 1
        return self.init

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.temperatures)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        handle._obj.value = 0x7F00_0000_1000 + index
        return self.handle

    def nvmlDeviceGetTemperature(self, handle, sensor, celsius):
        assert isinstance(handle, ctypes.c_void_p), "an int would be cut to 32 bits"
        assert sensor == 0
        found = self.temperatures[handle.value - 0x7F00_0000_1000]
        celsius._obj.value = found or 0
        return 15 if found is None else 0


@pytest.fixture
def nvml(monkeypatch):
    """Return a function that installs a fake NVML."""

    def install(library):
        def load(name):
            library.name = name
            return library

        monkeypatch.setattr(ctypes, "CDLL", load)
        return library

    _nvml.cache_clear()
    yield install
    _nvml.cache_clear()


@pytest.mark.parametrize(
    ("library", "celsius"),
    [
        (Nvml(66), 66.0),
        (Nvml(40, 91, 55), 91.0),
        (Nvml(0), None),
        (Nvml(), None),
        (Nvml(None), None),
        (Nvml(40, None), None),
        (Nvml(40, init=9), None),
        (Nvml(40, handle=4), None),
    ],
)
def test_the_gpu_is_as_hot_as_nvml_says_or_unknown(nvml, library, celsius):
    nvml(library)
    assert sensor_for("cuda")() == Reading(celsius)


@pytest.mark.parametrize(
    ("platform", "name"), [("linux", "libnvidia-ml.so.1"), ("win32", "nvml.dll")]
)
def test_nvml_is_opened_once_by_its_name_on_the_system(nvml, monkeypatch, platform, name):
    monkeypatch.setattr(sys, "platform", platform)
    library = nvml(Nvml(50))
    sensor = sensor_for("cuda:0")
    assert [sensor(), sensor()] == [Reading(50.0)] * 2
    assert (library.inits, library.name) == (1, name)


def test_an_nvml_that_fails_to_start_is_tried_again(nvml):
    nvml(Nvml(50, init=9))
    sensor = sensor_for("cuda")
    assert sensor() == UNKNOWN
    nvml(Nvml(50))
    assert sensor() == Reading(50.0)


def test_a_machine_without_nvml_is_unknown(nvml, monkeypatch):
    def absent(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert sensor_for("cuda")() == UNKNOWN


def test_a_training_on_the_cpu_reads_no_gpu(nvml, monkeypatch):
    library = nvml(Nvml(99))
    hwmon(monkeypatch, {"coretemp": [("", 50.0)]})
    assert sensor_for("cpu")() == Reading(50.0)
    assert library.name is None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_sensors_of_this_machine_can_be_read(nvml, device):
    reading = sensor_for(device)()
    assert isinstance(reading, Reading)
    assert (reading == UNKNOWN) == (band(reading) == "unknown")


def test_a_check_between_readings_takes_less_than_20_microseconds():
    lines = [
        "import time, timeit",
        "from patchscale.runtime.thermal import Guard, Reading",
        "guard = Guard(lambda: Reading(50.0), print, interval=1e9)",
        "check, timer = (lambda: guard.check(bool)), time.thread_time",
        "print(min(timeit.repeat(check, timer=timer, number=1000, repeat=5)))",
        "import sys; assert 'torch' not in sys.modules",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) / 1000 < 20e-6

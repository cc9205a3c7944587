"""A plugin for pytest that runs some of coremltools' own tests and writes down how each ended; see run.py.

Predictions come from the package's own plugin (`-p candle_coreml.coremltools`), which has to be loaded too.
"""

import json
import os
import platform
import random
import signal
import sys
import types
import zlib

import numpy as np
import pytest

# What of the engine a test has to use to say anything about it.
USES = (
    "predict",
    "batchPredict",
    "newState",
    "get_compiled_model_path",
    "compileModel",
    "get_model_structure",
)
# Helpers that compare, with the tolerances that they give to halves.
COMPARERS = {
    "coremltools.converters.mil.testing_utils": "compare_backend",
    "coremltools.converters.mil.frontend.torch.test.testing_utils": "convert_and_compare",
}
LOOSE = (0.5, 0.05)


class TimedOut(BaseException):
    """A test took too long. No `Exception`, which tests would catch."""


def pytest_addoption(parser):
    group = parser.getgroup("conformance")
    group.addoption("--conformance-ids", help="file with the ids of the tests to run")
    group.addoption("--conformance-results", help="file to write results to, as lines of JSON")
    group.addoption("--conformance-strict-fp16", help="ABS,REL: tolerances for halves")
    group.addoption("--conformance-seconds", type=int, default=120, help="for each test")


def pytest_configure(config):
    config.addinivalue_line("markers", "optional: a mark of coremltools")
    config.pluginmanager.register(Recorder(config), "conformance-recorder")


class Recorder:
    """Chooses the tests, and records how they end."""

    def __init__(self, config):
        with open(config.getoption("--conformance-ids")) as file:
            self.ids = set(file.read().splitlines())
        self.results = open(config.getoption("--conformance-results"), "a", buffering=1)
        self.seconds = config.getoption("--conformance-seconds")
        self.strict = config.getoption("--conformance-strict-fp16")
        self.uses = 0
        self.watch_engine()
        claim_arm()

    def watch_engine(self):
        """Counts what tests ask of the engine."""
        from candle_coreml.coremltools import Engine

        for name in USES:
            before = vars(Engine)[name]
            static = isinstance(before, staticmethod)
            function = before.__func__ if static else before

            def counted(*args, function=function, **named):
                self.uses += 1
                return function(*args, **named)

            setattr(Engine, name, staticmethod(counted) if static else counted)

    def write(self, **result):
        self.results.write(json.dumps(result) + "\n")

    def pytest_collection_modifyitems(self, config, items):
        # Test classes that a file imports from another are its own, too: one of a name is enough.
        chosen = {name(item): item for item in items if name(item) in self.ids}
        config.hook.pytest_deselected(items=[item for item in items if chosen.get(name(item)) is not item])
        items[:] = chosen.values()
        if self.strict:
            absolute, relative = map(float, self.strict.split(","))
            tighten({LOOSE[0]: absolute, LOOSE[1]: relative})

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        self.uses = 0
        self.write(id=name(item), outcome="started")
        sow(zlib.crc32(name(item).encode()))
        signal.signal(signal.SIGALRM, self.time_out)
        signal.alarm(self.seconds)
        try:
            return (yield)
        finally:
            signal.alarm(0)

    def time_out(self, signal, frame):
        raise TimedOut(f"took longer than {self.seconds} s")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if report.when == "call" or not report.passed:
            outcome, why = report.outcome, ""
            if hasattr(report, "wasxfail"):
                outcome = "passed" if report.passed else "expected to fail"
                why = report.wasxfail
            elif report.skipped:
                why = str(report.longrepr[-1])
            elif report.failed:
                why = f"{call.excinfo.typename}: {call.excinfo.value}"
            elif not self.uses:
                outcome = "no prediction"
            self.write(id=name(item), outcome=outcome, why=why[:2000], seconds=round(call.duration, 2))
        return report


def name(item):
    """A test's id, as a line."""
    return item.nodeid.replace("\n", "\\n")


def claim_arm():
    """coremltools' tests leave out, on any machine but Apple's newer ones, what older ones could not do."""
    machine = platform.machine

    def arm64():
        module = sys._getframe(1).f_globals.get("__name__", "")
        return "arm64" if module.startswith(("coremltools.", "test_")) else machine()

    platform.machine = arm64


def tighten(tolerances):
    """Puts other numbers into the helpers that compare: they are constants there."""
    for module, name in COMPARERS.items():
        function = getattr(sys.modules.get(module), name, None)
        if isinstance(function, types.FunctionType):
            constants = function.__code__.co_consts
            changed = tuple(tolerances.get(c, c) if isinstance(c, float) else c for c in constants)
            if changed == constants:
                raise pytest.UsageError(f"{module}.{name} has not the tolerances {LOOSE}")
            function.__code__ = function.__code__.replace(co_consts=changed)


def sow(seed):
    """Each test gets the same random numbers in every run."""
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


os.environ.setdefault("INCLUDE_MIL_FP32_UNIT_TESTS", "1")

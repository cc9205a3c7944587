"""Runs coremltools' own tests, which lie in its wheel, with predictions of candle_coreml.

    python run.py [--ids FILE] [--strict-fp16 ABS,REL] [--report FILE.json] [--jobs N]

A test that kills or blocks its process is a failed one; the others go on without it. The list of tests is
`sample.txt`, unless --ids names another: a test a line, as pytest names it with the folder of site-packages
as its root. The exit code is 1 if a test failed, was left out by coremltools, or predicted nothing.
"""

import argparse
import collections
import concurrent.futures
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SITE_PACKAGES = Path(importlib.util.find_spec("coremltools").origin).parents[1]
# How long it may take until the first test starts: the files have tens of thousands of tests.
COLLECTING = 900


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=Path, default=HERE / "sample.txt", help="tests to run, one a line")
    parser.add_argument("--filter", help="regular expression that ids match")
    parser.add_argument(
        "--strict-fp16", metavar="ABS,REL", help="tolerances for halves in the place of 0.5,0.05"
    )
    parser.add_argument("--timeout", type=int, default=120, metavar="SECONDS", help="for each test")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--report", type=Path, help="file for the results, as JSON")
    return parser.parse_args()


def main():
    options = arguments()
    ids = [line for line in options.ids.read_text().splitlines() if line and not line.startswith("#")]
    ids = [test for test in ids if not options.filter or re.search(options.filter, test)]
    started = time.monotonic()
    results = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
    ):
        shares = [
            Share(tests, Path(directory, str(place)), options)
            for place, tests in enumerate(shared(ids, options.jobs))
        ]
        for share in pool.map(Share.run, shares):
            results.update(share)
    return report(ids, results, round(time.monotonic() - started), options)


def shared(ids, jobs):
    """Splits tests into shares of whole files. What lies in different places is never collected together:
    a conftest names tests that are collected after it, its own or not."""
    places = collections.defaultdict(lambda: collections.defaultdict(list))
    for test in ids:
        file = test.split("::")[0]
        places["/".join(file.split("/")[:2])][file].append(test)
    shares = []
    for files in places.values():
        parts = [[] for _ in range(jobs)]
        for tests in sorted(files.values(), key=len, reverse=True):
            min(parts, key=len).extend(tests)
        shares += [part for part in parts if part]
    return sorted(shares, key=len, reverse=True)


class Share:
    """Tests that run in one process, or in several one after the other if they break it."""

    def __init__(self, tests, directory, options):
        self.tests, self.directory, self.options = tests, directory, options
        self.results_file, self.log_file = directory / "results", directory / "log"

    def run(self):
        """The results by id."""
        self.directory.mkdir()
        results = {}
        while left := [test for test in self.tests if test not in results]:
            self.results_file.write_text("")
            ended = self.start(left)
            found = self.read(ended)
            if not found:
                log = self.log_file.read_text(errors="replace")
                print(f"{len(left)} tests were not run: {ended}\n{log[-2000:]}")
                found = {test: {"id": test, "outcome": "not run", "why": ended} for test in left}
            results.update(found)
        return results

    def start(self, tests):
        """Runs tests in a process; tells how it ended."""
        (self.directory / "ids").write_text("\n".join(tests))
        command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "--tb=no"]
        for plugin in ["candle_coreml.coremltools", "plugin", "no:cacheprovider", "no:warnings"]:
            command += ["-p", plugin]
        command += [f"--rootdir={SITE_PACKAGES}", "--continue-on-collection-errors"]
        command += ["--conformance-ids", str(self.directory / "ids")]
        command += ["--conformance-results", str(self.results_file)]
        command += ["--conformance-seconds", str(self.options.timeout)]
        if self.options.strict_fp16:
            command += ["--conformance-strict-fp16", self.options.strict_fp16]
        command += dict.fromkeys(test.split("::")[0] for test in tests)
        given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        paths = [str(HERE), *map(os.path.abspath, given)]
        environment = {
            "OMP_NUM_THREADS": "1",
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(paths),
            "TMPDIR": str(self.directory),
        }
        with self.log_file.open("w") as log:
            process = subprocess.Popen(
                command, cwd=SITE_PACKAGES, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
            return self.wait(process)

    def wait(self, process):
        """Waits for a process to end, and ends it if it writes no more results; tells which."""
        while True:
            written = self.results_file.stat()
            patience = self.options.timeout + 30 if written.st_size else COLLECTING
            try:
                return f"the process ended with code {process.wait(timeout=5)}"
            except subprocess.TimeoutExpired:
                if time.time() - written.st_mtime > patience:
                    process.kill()
                    process.wait()
                    return f"nothing happened for {patience} s"

    def read(self, ended):
        """The results that the process wrote. A test that only started is what it ended with."""
        results = {}
        for line in self.results_file.read_text().splitlines():
            result = json.loads(line)
            results[result["id"]] = result
        for result in results.values():
            if result["outcome"] == "started":
                result.update(outcome="failed", why=ended)
        return results


def report(ids, results, seconds, options):
    """Prints how the tests ended; gives the exit code."""
    counts = collections.Counter(results[test]["outcome"] for test in ids)
    for test in ids:
        result = results[test]
        if result["outcome"] != "passed":
            print(f"{result['outcome']}: {test}\n    {result.get('why', '')[:300]}")
    if options.report:
        tests = [results[test] for test in ids]
        options.report.write_text(
            json.dumps({"seconds": seconds, "counts": counts, "tests": tests}, indent=1)
        )
    passed = counts["passed"]
    others = len(ids) - passed
    print(f"conformance: {passed} of {len(ids)} tests of coremltools passed, {others} did not ({seconds} s)")
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())

"""The course inside a real Jupyter kernel: cards, broken cells, interrupts, and a restart."""

import os
import time
from pathlib import Path

import pytest
from course_kit import RIGHT, STUB, body
from jupyter_client.manager import KernelManager

SETUP = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from course_kit import q_sample_exercise
from minivdm.course import check, exercise, piece, start
exercise.registry["forward_process.q_sample"] = q_sample_exercise()
import torch
import minivdm.diffusion.forward_process
from minivdm.diffusion.forward_process import q_sample as imported
from minivdm.diffusion.schedules import per_sample
start("01_ddpm")
"""


class Kernel:
    """A kernel that runs one cell at a time."""

    def __init__(self, environment):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=environment)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, source, interrupt_after=None):
        """Run a cell; returns (printed text, data of the displayed things, name of the exception or None)."""
        shown, text, failed = [], "", None
        sent = self.client.execute(source)
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != sent:
                continue
            if kind == "execute_input" and interrupt_after:
                time.sleep(interrupt_after)
                self.manager.interrupt_kernel()
            if kind == "stream":
                text += content["text"]
            elif kind in ("display_data", "execute_result"):
                shown.append(content["data"])
            elif kind == "error":
                failed = content["ename"]
            elif kind == "status" and content["execution_state"] == "idle":
                return text, shown, failed

    def is_complete(self, source):
        sent = self.client.is_complete(source)
        while True:
            message = self.client.get_shell_msg(timeout=20)
            if message["parent_header"].get("msg_id") == sent:
                return message["content"]["status"]

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    return {
        **os.environ,
        "MINIVDM_PIECES": str(folder / "my_pieces"),
        "MINIVDM_STRICT": "0",
        "MINIVDM_CHECK_SECONDS": "30",
    }


@pytest.fixture(scope="module")
def kernel(environment):
    made = Kernel(environment)
    text, _, failed = made.run(SETUP)
    assert failed is None and "pieces are yours" in text
    yield made
    made.stop()


def test_card_has_html_and_text_and_is_shown_once(kernel):
    text, shown, failed = kernel.run(STUB + "\ncheck(q_sample)")
    assert failed is None and text == "" and len(shown) == 1
    assert shown[0]["text/plain"] == "Exercise 1.3 (q_sample): not attempted"
    assert shown[0]["text/html"].startswith("<div") and "not attempted" in shown[0]["text/html"]


BROKEN = '@piece("forward_process.q_sample")\ndef q_sample(x0, t, noise, schedule):\n    return (x0\n\ncheck(q_sample)'


def test_broken_cell_shows_a_card_and_the_chapter_goes_on(kernel):
    text, shown, failed = kernel.run(BROKEN)
    assert failed is None and len(shown) == 1
    lines = shown[0]["text/plain"].splitlines()
    assert lines[0].endswith("error") and lines[1] == "  SyntaxError: '(' was never closed, line 3 of the cell"
    assert lines[2].strip() == "return (x0" and lines[3].index("^") == lines[2].index("(")
    schedule = "minivdm.diffusion.schedules.NoiseSchedule(minivdm.diffusion.schedules.linear_betas(50))"
    source = f"q_sample(torch.zeros(1), torch.tensor([1]), torch.ones(1), {schedule}).shape"
    text, shown, failed = kernel.run("import minivdm.diffusion.schedules\n" + source)
    assert failed is None and shown[0]["text/plain"] == "torch.Size([1])" and "the reference runs instead" in text
    _, shown, _ = kernel.run("check(q_sample)")
    assert "SyntaxError" in shown[0]["text/plain"]


def test_broken_class_falls_back_too(kernel):
    source = '@piece("schedules.NoiseSchedule")\nclass NoiseSchedule:\ndef __init__(self, betas):\n    pass\n'
    _, shown, failed = kernel.run(source)
    assert failed is None and "IndentationError" in shown[0]["text/plain"]
    _, shown, failed = kernel.run("NoiseSchedule(torch.tensor([0.5, 0.5])).alpha_bar.tolist()")
    assert failed is None and shown[0]["text/plain"] == "[1.0, 0.5, 0.25]"


def test_other_cells_are_left_alone(kernel):
    assert kernel.run("x = (1")[2] == "SyntaxError"
    text, _, failed = kernel.run("%time y = 1\n!echo hello\nfor i in range(1):\n    %matplotlib inline\n")
    assert failed is None and "hello" in text
    text, shown, failed = kernel.run("%pwd\n" + STUB + "\n!echo inside\ncheck(q_sample)")
    assert failed is None and "inside" in text and "not attempted" in shown[-1]["text/plain"]
    text, shown, failed = kernel.run("%%time\n" + STUB + "\ncheck(q_sample)")
    assert failed is None and "not attempted" in shown[-1]["text/plain"]


def test_half_typed_cells_are_incomplete(kernel):
    assert kernel.is_complete('@piece("forward_process.q_sample")\ndef q_sample(x0,') == "incomplete"
    assert kernel.is_complete("x = 1") == "complete"


def test_interrupting_a_check_leaves_the_kernel_usable(kernel):
    source = body("while True:", "    x0 = x0 + 0") + "\ncheck(q_sample)"
    began = time.time()
    text, shown, failed = kernel.run(source, interrupt_after=1)
    assert failed is None and time.time() - began < 15
    assert "error\n  interrupted\n  line " in shown[0]["text/plain"]
    assert kernel.run("1 + 1")[1][0]["text/plain"] == "2"
    assert kernel.run("while True: pass", interrupt_after=0.5)[2] == "KeyboardInterrupt"  # as it was before


def test_time_limit_leaves_the_kernel_usable(kernel):
    kernel.run("import os; os.environ['MINIVDM_CHECK_SECONDS'] = '0.5'")
    _, shown, failed = kernel.run(body("while True:", "    pass") + "\ncheck(q_sample)")
    kernel.run("os.environ['MINIVDM_CHECK_SECONDS'] = '30'")
    assert failed is None and "stopped after 0.5 s" in shown[0]["text/plain"]
    assert kernel.run("import time; time.sleep(1.5); 1 + 1")[1][0]["text/plain"] == "2"


def test_passed_piece_runs_after_a_restart(kernel, environment):
    text, shown, failed = kernel.run(
        "OFFSET = 0\n" + RIGHT.replace("a.sqrt() *", "OFFSET + a.sqrt() *") + "check(q_sample)"
    )
    assert failed is None and "passed" in shown[0]["text/plain"] and "Kept in my_pieces" in shown[0]["text/plain"]
    _, shown, _ = kernel.run("imported is minivdm.diffusion.forward_process.q_sample and imported is not q_sample")
    assert shown[0]["text/plain"] == "True"
    fresh = Kernel(environment)
    try:
        assert "1 " in fresh.run(SETUP)[0]
        _, shown, _ = fresh.run(
            "import inspect; 'OFFSET' in inspect.getsource(minivdm.diffusion.forward_process.q_sample)"
        )
        assert shown[0]["text/plain"] == "True"
    finally:
        fresh.stop()

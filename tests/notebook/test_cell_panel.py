"""`%%enqueue` in a real JupyterLab, in a real browser; pictures as in test_panels."""

from __future__ import annotations

import pytest
from conftest import wait_until
from lab import browser_path
from test_panels import browser, kinds, lab, opened, says  # noqa: F401 - fixtures

pytestmark = pytest.mark.skipif(browser_path() is None, reason="no Chromium on the PATH")

LOAD = """
%load_ext nbqueue
from nbqueue import q
from pathlib import Path
from IPython.display import HTML, clear_output, display
import time

def hold(path):
    while not Path(path).exists():
        time.sleep(0.02)
"""


def test_a_cell_in_the_background_shows_text_table_figure_and_result_while_others_run(opened, tmp_path):  # noqa: F811
    go = str(tmp_path / "go")
    page = opened(LOAD, (
        "%%enqueue job -o frame\nimport sys\nprint('one line')\nprint('a warning', file=sys.stderr)\n"
        "import pandas as pd\nframe = pd.DataFrame({'price': [1.5, 2.5]})\ndisplay(frame)\n"
        "import matplotlib.pyplot as plt\nplt.figure(figsize=(3, 1.5)); plt.plot([1, 3, 2]); plt.show()\n"
        f"hold({go!r})\nlen(frame)"
    ), "frame", (
        f"import asyncio\ntime.sleep(1)\nPath({go!r}).touch()\nwhile not job.is_finished: await asyncio.sleep(0.05)\n"
        "await asyncio.sleep(0.5)\n'beside', 'frame' in globals()"
    ), "float(frame.price.sum()), job.result()")  # fmt: skip
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "job · running", "brings back frame", "Cancel", "one line", "a warning", "2.5")
    page.output(1).locator("img").first.wait_for()
    page.run_to_end(2)
    says(page, 2, "NameError", "'frame' comes from job (job ", "which is running", "job.wait() waits for it")
    page.run_to_end(3)
    says(page, 3, "('beside', False)")
    says(page, 1, "job · finished in", "frame is here")
    page.run_to_end(4)
    says(page, 4, "(4.0, 2)")
    assert page.output(1).get_by_role("button", name="Cancel").count() == 0
    found = page.save()["cells"][1]["outputs"]
    assert [output["output_type"] for output in found] == [
        "display_data", "display_data", "stream", "stream", "display_data", "display_data", "execute_result",
    ]  # fmt: skip
    assert found[-1]["execution_count"] == 2
    page.shut_down_kernel()
    page.page.goto(f"{page.lab.url}/lab/tree/{page.name}?reset")
    says(page, 1, "job · finished in", "one line", "2.5")
    assert "model not found" not in page.text(1)


@pytest.mark.parametrize("form", ["tqdm", "tqdm.notebook"])
def test_a_bar_of_tqdm_is_the_bar_of_its_cell(opened, tmp_path, form):  # noqa: F811
    go = str(tmp_path / "go")
    page = opened(LOAD, (
        f"%%enqueue train\nfrom {form} import tqdm\nfor i in tqdm(range(100), desc='epochs'):\n    time.sleep(0.02)\n"
        f"    while i == 50 and not Path({go!r}).exists(): time.sleep(0.02)\n'trained'"
    ))  # fmt: skip
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "train · running for", "of 100 · epochs", "left")
    assert page.output(1).get_by_role("progressbar").first.get_attribute("title").endswith(" %")
    assert "no counterpart" not in page.text(1)
    (tmp_path / "go").touch()
    says(page, 1, "train · finished in", "'trained'")


def test_an_error_in_the_background_is_shown_as_ever_and_the_former_value_is_back(opened):  # noqa: F811
    cell = "%%enqueue -o price\ndef look_up(table):\n    return table['no such row']\nprice = look_up({})"
    page = opened(LOAD + "price = 'former'", cell, "price")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "failed after", "KeyError", "----> 3", "Traceback (most recent call last)")
    assert page.text(1).count("Traceback") == 1
    page.run_to_end(2)
    says(page, 2, "'former'")


def test_what_is_cleared_again_and_again_does_not_move_the_page(opened, tmp_path):  # noqa: F811
    go = str(tmp_path / "go")
    page = opened(LOAD, (
        "%%enqueue job\nprint('before')\ni = 0\n"
        f"while not Path({go!r}).exists():\n    clear_output(wait=True)\n    print('frame', i)\n"
        "    display(HTML(f'<div style=\"height:60px\">picture {i}</div>'))\n    i += 1\n    time.sleep(0.15)"
    ))  # fmt: skip
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "frame 3", "picture 3")
    area = page.output(1)
    heights = page.page.evaluate(
        """async node => {
            const seen = new Set(), until = Date.now() + 2000;
            while (Date.now() < until) {
                seen.add(Math.round(node.getBoundingClientRect().height));
                await new Promise(requestAnimationFrame);
            }
            return [...seen];
        }""",
        area.element_handle(),
    )
    assert len(heights) == 1
    says(page, 1, "job · running", "Cancel")
    (tmp_path / "go").touch()
    says(page, 1, "job · finished in")
    expected = ["display_data", "display_data", "stream", "display_data"]  # drawn once more after the panel has ended
    wait_until(lambda: [output["output_type"] for output in page.save()["cells"][1]["outputs"]] == expected)


def test_a_click_cancels_the_cell_and_its_finally_is_heard(opened):  # noqa: F811
    page = opened(LOAD, "%%enqueue job\ntry:\n    print('begun')\n    hold('never')\nfinally:\n    print('put back')")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "begun")
    page.output(1).get_by_role("button", name="Cancel").click()
    says(page, 1, "job · canceled", "put back")


def test_after_a_restart_of_the_kernel_show_draws_the_cell_and_follows_it(opened, tmp_path):  # noqa: F811
    go = str(tmp_path / "go")
    page = opened(LOAD, f"%%enqueue job\nprint('before')\nhold({go!r})\nprint('after')\n6 * 7",
                  "from nbqueue import q\njob = q.last()[0]\njob.show()", "job.result()")  # fmt: skip
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "before")
    page.restart_kernel()
    page.run_to_end(2)
    says(page, 2, "job · running", "before", "Cancel")
    (tmp_path / "go").touch()
    says(page, 2, "job · finished in", "before after", "42")
    page.run_to_end(3)
    says(page, 3, "42")
    assert page.save()["cells"][2]["outputs"][-1]["data"]["text/plain"] == ["42"]


def test_after_the_page_was_loaded_anew_the_panel_goes_on_and_says_what_is_missing(opened, tmp_path):  # noqa: F811
    go = str(tmp_path / "go")
    page = opened(LOAD, f"%%enqueue job\nprint('before')\nhold({go!r})\nfor i in range(3): print('line', i)\n"
                        f"hold({go!r} + '2')", "job.show()")  # fmt: skip
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "before")
    page.page.wait_for_timeout(1600)  # a younger panel takes the request for that of its own page
    page.save()
    page.open()
    says(page, 1, "job · running", "The page was loaded anew", ".show() draws all of it again")
    (tmp_path / "go").touch()
    says(page, 1, "line 2")
    (tmp_path / "go2").touch()
    says(page, 1, "job · finished in")
    wait_until(lambda: page.output(1).get_by_role("button", name="Cancel").count() == 0)
    page.run_to_end(2)
    says(page, 2, "job · finished in", "before line 0 line 1 line 2")


def test_a_second_run_is_refused_under_the_panel_of_the_first_one(opened, tmp_path):  # noqa: F811
    go = str(tmp_path / "go")
    page = opened(LOAD, f"%%enqueue job\nhold({go!r})\n'ended'")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "running")
    page.run_to_end(1)
    says(page, 1, "job · running", "UsageError: the former run of this cell", "%%enqueue --replace")
    page.output(1).get_by_role("button", name="Cancel").click()
    says(page, 1, "job · canceled")
    (tmp_path / "go").touch()
    page.run_to_end(1)
    says(page, 1, "job · finished", "'ended'")

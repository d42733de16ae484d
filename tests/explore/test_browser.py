"""The page in a browser: every control moves, and what is read back are the package's numbers."""

import json
import math
import re

import pytest
import torch
from explore_golden import integrals

from analysis import explore
from analysis.metrics import scale_factors
from analysis.toys import GaussianPair, Table

pytestmark = pytest.mark.slow

BITS = [[40, 30, 20, 10], [10, 20, 30, 40]]
TABLE, GAUSSIANS, TEXT = "#panel-table", "#panel-gaussians", "#panel-text"


def number(page, panel, part):
    """Return what a part of a panel shows, with all digits."""
    return float(page.locator(f'{panel} [data-part="{part}"]').get_attribute("data-value"))


def cells(page, panel, part):
    """Return the numbers of the table in a part of a panel, by row; NaN for a number that is not finite or no number."""
    script = "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => cell.dataset.value ?? 'NaN'))"
    rows = page.locator(f'{panel} [data-part="{part}"] tbody tr').evaluate_all(script)
    return [[float(value.replace("Infinity", "inf")) for value in row] for row in rows]


def move(page, name, value):
    """Set a slider, as a pointer would."""
    page.locator(f"#in-{name}").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})); }", str(value)
    )


def table_of(weights, shape=(2, 2)):
    joint = torch.tensor(weights, dtype=torch.float64)
    return Table((joint / joint.sum()).reshape(2, *shape))


def check_table(page, table, label, scale, temperature=1.0):
    """Compare every number of the first tab with the package's."""
    given = {"temperature": temperature}
    numbers = scale_factors.summary(table, label, scale, **given)
    assert number(page, TABLE, "kl") == pytest.approx(numbers["kl_sequential_joint"], rel=1e-10, abs=1e-12)
    frame = scale_factors.laws_frame(table, label, scale, **given)
    shown = cells(page, TABLE, "numbers")
    for column, name in enumerate(("p_uncond", "p_cond", "p_sequential", "p_joint")):
        assert [row[column] for row in shown] == pytest.approx(frame[name].tolist(), rel=1e-10, abs=1e-300)
    ratio = (frame["log_s"] - frame["log_s_prime"]).map(math.exp).tolist()  # NaN where both laws are 0
    pairs = [(row[4], each) for row, each in zip(shown, ratio, strict=True) if not math.isnan(each)]
    assert [one for one, _ in pairs] == pytest.approx([other for _, other in pairs], rel=1e-9)
    log_zt = [
        value for part in table.sequential_guided(label, scale, **given).log_normalizers for value in part.flatten().tolist()
    ]
    assert [row[2] for row in cells(page, TABLE, "prefixes")] == pytest.approx(log_zt, rel=1e-10, abs=1e-12)
    names = ("log_z", "kl_sequential_joint", "kl_joint_sequential", "tv")
    ends = ("entropy_conditional", "entropy_sequential", "entropy_joint")
    summary = [row[0] for row in cells(page, TABLE, "summary")]
    expected = [*(numbers[name] for name in names), summary[4], *(numbers[name] for name in ends)]
    assert summary == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("where", ["http", "file"])
def test_every_control_of_the_table_gives_the_numbers_of_the_package(visit, where):
    page = visit(where)
    page.locator("#in-preset").select_option("bits")
    check_table(page, table_of(BITS), 1, 3.0)
    move(page, "g", 6.5)
    check_table(page, table_of(BITS), 1, 6.5)
    move(page, "g", -1.5)
    check_table(page, table_of(BITS), 1, -1.5)
    move(page, "tau", 0.5)
    check_table(page, table_of(BITS), 1, -1.5, 0.5)
    page.locator("#in-y-0").check()
    check_table(page, table_of(BITS), 0, -1.5, 0.5)
    page.locator("#reset-table").click()
    check_table(page, table_of(BITS), 1, 3.0)
    page.locator("#in-coherent").check()
    posterior = [row[5] for row in cells(page, TABLE, "numbers")]
    assert posterior == pytest.approx([0.2, 0.4, 0.6, 0.8], rel=1e-10)
    log_z = float(table_of(BITS).joint_guided(1, 3.0).log_normalizer)
    assert number(page, TABLE, "acceptance") == pytest.approx(math.exp(log_z + 2 * math.log(0.5)), rel=1e-10)
    page.locator("#in-coherent").uncheck()
    assert page.locator('[data-part="coherent"]').is_hidden()


def test_a_bar_is_dragged_and_moved_by_keys(visit):
    page = visit("file", "preset=bits&g=3")
    handles = page.get_by_role("slider", name="weight of")
    assert handles.count() == 8
    box = handles.nth(0).bounding_box()
    middle = box["x"] + box["width"] / 2
    page.mouse.move(middle, box["y"] + box["height"] * 0.7)
    page.mouse.down()
    page.mouse.move(middle, box["y"] + box["height"] * 0.25, steps=4)
    page.mouse.up()
    moved = int(handles.nth(0).get_attribute("aria-valuenow"))
    assert 65 < moved < 85
    weights = [[moved, 30, 20, 10], [10, 20, 30, 40]]
    check_table(page, table_of(weights), 1, 3.0)
    last = handles.nth(7)
    last.focus()
    for key, now in (("ArrowUp", 41), ("PageDown", 31), ("Home", 0), ("End", 100), ("ArrowDown", 99)):
        page.keyboard.press(key)
        assert int(last.get_attribute("aria-valuenow")) == now
        weights[1][3] = now
        check_table(page, table_of(weights), 1, 3.0)
    assert "probability" in last.get_attribute("aria-valuetext")


def test_an_improper_tilt_and_an_empty_label_are_said(visit):
    page = visit("file", "preset=zeros&g=-1")
    assert "infinite mass" in page.locator(f'{TABLE} [role="alert"]').inner_text()
    assert page.locator(f'{TABLE} [data-part="numbers"]').is_hidden()
    page = visit("file", "preset=bits&w=1.1.1.1.0.0.0.0")
    assert "some mass" in page.locator(f'{TABLE} [role="alert"]').inner_text()
    page.get_by_role("slider", name="weight of y = 1, x = 11").press("End")
    assert page.locator(f'{TABLE} [role="alert"]').inner_text() == ""
    check_table(page, table_of([[1, 1, 1, 1], [0, 0, 0, 100]]), 1, 4.0)


def test_gaussians_have_the_closed_forms(visit):
    page = visit("http", "tab=gaussians")
    settings = {"gg": 3.5, "noise": 1.5, "m": -0.5, "a": 0.6, "b": 1.7}
    for name, value in settings.items():
        move(page, name, value)
    shown = dict(zip(("uncond", "cond", "joint", "ode", "sde", "noise"), cells(page, GAUSSIANS, "numbers"), strict=True))
    tilt = GaussianPair.scalar(-0.5, 0.6, 1.7).joint_guided(0, 3.5).law
    assert shown["uncond"][:2] == [0, 1.7]
    assert shown["cond"][:2] == [-0.5, 0.6]
    assert shown["joint"][:2] == pytest.approx([float(tilt.mean), float(tilt.covariance)], rel=1e-10)
    for name, noise in (("ode", 0.0), ("sde", 1.0), ("noise", 1.5)):
        assert shown[name][:2] == pytest.approx(integrals(-0.5, 0.6, 1.7, 3.5, noise), rel=1e-10)
    page.locator("#in-gg").evaluate("input => input.value = 0")
    move(page, "b", 0.1)
    assert "improper" in page.locator(f'{GAUSSIANS} [role="alert"]').inner_text()
    assert math.isnan(number(page, GAUSSIANS, "kl"))


def test_two_modes_have_the_published_numbers(visit):
    page = visit("file", "tab=gaussians")
    page.locator("#in-law-modes").check()
    ode, joint = cells(page, GAUSSIANS, "numbers")[3], cells(page, GAUSSIANS, "numbers")[2]
    assert joint[:2] == pytest.approx([1.2900, 0.7443], abs=1e-4)
    assert ode[:2] == pytest.approx([1.612, 0.580], abs=1e-3)
    before = number(page, GAUSSIANS, "kl")
    for name, value in (("mu", 1.5), ("pi", 0.3), ("gg", 4)):
        move(page, name, value)
        after = number(page, GAUSSIANS, "kl")
        assert after != before
        before = after
    assert page.locator("#in-noise").is_hidden()


def test_a_text_is_chosen_and_its_tokens_are_walked(visit):
    page = visit("http", "tab=text")
    example = json.loads((explore.folder() / "example.json").read_text(encoding="utf-8"))

    def gain(text):
        return sum(text["log_normalizer"]) - text["log_z"]

    texts = sorted(example["texts"], key=gain, reverse=True)
    assert number(page, TEXT, "gain") == pytest.approx(gain(texts[0]), rel=1e-10)
    page.locator(".pick").nth(5).click()
    assert number(page, TEXT, "gain") == pytest.approx(gain(texts[5]), rel=1e-10)
    tokens = page.get_by_role("option")
    assert tokens.count() == len(texts[5]["tokens"])
    tokens.nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert number(page, TEXT, "logZ") == texts[5]["log_normalizer"][2]
    assert number(page, TEXT, "path") == pytest.approx(sum(texts[5]["log_normalizer"][:3]), rel=1e-10)
    assert number(page, TEXT, "logQ") == pytest.approx(texts[5]["log_target"][2] - texts[5]["log_normalizer"][2], abs=1e-12)
    page.keyboard.press("End")
    assert page.locator(":focus").get_attribute("aria-selected") == "true"
    tokens.nth(1).hover()
    assert number(page, TEXT, "logBase") == texts[5]["log_base"][1]


def test_a_file_is_opened_escaped_and_a_bad_one_refused(visit, tmp_path):
    page = visit("file", "tab=text")
    example = json.loads((explore.folder() / "example.json").read_text(encoding="utf-8"))
    example["prompt"] = "<img src=x onerror=alert(1)>"
    example["texts"] = [example["texts"][0] | {"tokens": ["<b>bold</b>", *example["texts"][0]["tokens"][1:]]}]
    (tmp_path / "mine.json").write_text(json.dumps(example))
    (tmp_path / "bad.json").write_text('{"format": "arguide text", "version": 9}')
    page.set_input_files("#in-file", tmp_path / "mine.json")
    page.get_by_text("<img src=x").wait_for()
    assert page.locator(f"{TEXT} img, {TEXT} tbody b").count() == 0
    assert page.get_by_role("option").first.inner_text().startswith("<b>bold</b>")
    page.set_input_files("#in-file", tmp_path / "bad.json")
    alert = page.locator(f'{TEXT} [role="alert"]')
    alert.wait_for()
    assert alert.inner_text() == "bad.json: version must be 1, got 9"
    assert page.get_by_role("option").first.inner_text().startswith("<b>bold</b>")
    script = """async ([text, name]) => {
        const data = new DataTransfer();
        data.items.add(new File([text], name));
        const drop = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
        document.querySelector("#panel-text").dispatchEvent(drop);
    }"""
    page.evaluate(script, [(explore.folder() / "example.json").read_text(encoding="utf-8"), "dropped.json"])
    page.get_by_text("dropped.json", exact=True).wait_for()
    assert alert.is_hidden()


def test_the_state_is_in_the_url(visit):
    page = visit("file", "preset=three&w=1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16&y=0&g=2.5&tau=0.7&coherent=1")
    weights = [[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15, 16]]
    check_table(page, table_of(weights, (2, 2, 2)), 0, 2.5, 0.7)
    move(page, "g", 5)
    page.get_by_role("slider", name="weight of y = 0, x = 000").press("ArrowUp")
    page.wait_for_url(re.compile(r"w=2\.2\.3"))
    other = visit("file", page.url.split("#")[1])
    for each in (page, other):
        check_table(each, table_of([[2, *weights[0][1:]], weights[1]], (2, 2, 2)), 0, 5.0, 0.7)
    other.evaluate("location.hash = 'tab=gaussians&gg=3'")
    other.locator(GAUSSIANS).wait_for(state="visible")
    assert other.locator("#in-gg").input_value() == "3"


def test_the_keyboard_reaches_everything(visit):
    page = visit("file")
    page.locator("#tab-table").focus()
    for panel in ("gaussians", "text", "table"):
        page.keyboard.press("ArrowRight")
        assert page.locator(":focus").get_attribute("id") == f"tab-{panel}"
        assert page.locator(f"#panel-{panel}").is_visible()
        assert page.get_by_role("tab", selected=True).count() == 1
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
    names = {f"weight of y = {y}, x = {x}" for y in "01" for x in ("00", "01", "10", "11")}
    assert {"in-preset", "reset-table", "in-g", "in-tau", "in-y-1", "in-coherent", "panel-table"} | names <= seen
    before = number(page, TABLE, "kl")
    page.locator("#in-g").press("ArrowRight")
    assert number(page, TABLE, "kl") != before
    unnamed = page.locator("input, select, button, [role=slider], [role=option]").evaluate_all(
        "all => all.filter(e => !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map(e => e.id)"
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_no_width_or_scheme_breaks_the_page(visit, tmp_path, width, scheme):
    for tab in ("table", "gaussians", "text"):
        page = visit("file", f"tab={tab}&preset=three", width=width, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=tmp_path / f"{tab}-{width}-{scheme}.png", full_page=True)
        ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
        dark = [sum(map(int, re.findall(r"\d+", colour)[:3])) < 384 for colour in (ink, paper)]
        assert dark == [scheme == "light", scheme == "dark"]
        inside = "all => all.every(e => e.getBoundingClientRect().right <= innerWidth + 1)"
        assert page.locator("svg").evaluate_all(inside)


def test_a_folder_without_a_server_says_what_to_do(browser):
    page = browser.new_page()
    page.goto((explore.folder() / "index.html").as_uri())
    assert "python -m http.server" in page.locator("#loading").inner_text()
    page.close()


def test_an_error_on_the_page_is_found(visit):
    """The negative control of every test above."""
    page = visit("file")
    page.evaluate("setTimeout(() => { throw new Error('planted') })")
    page.evaluate("console.warn('planted too')")
    page.evaluate("new Image().src = 'http://127.0.0.1:9/x.png'")
    page.wait_for_timeout(300)
    found = " ".join(visit.bad)
    visit.bad.clear()
    assert "planted" in found
    assert "planted too" in found
    assert "127.0.0.1:9" in found

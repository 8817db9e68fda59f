"""The page in a browser: tables, filters, panel, address and downloads."""

import csv
import json

import pandas as pd
import pytest
from page_checks import FAILURE, RHO_A, Opener, column, downloaded, headings, of, panel, rows

from unlearnable_bench.reports.radius_curves import radius_curves_data
from unlearnable_bench.results.command import command_of


def test_a_table_is_that_of_the_records(opened: Opener, frame: pd.DataFrame) -> None:
    page = opened()
    assert page.title() == "Unlearnable examples on CIFAR-10"
    assert headings(page) == ["Method", f"{RHO_A} 0", f"{RHO_A} 4/255"]
    sem = frame[(frame["attack"] == "sem") & (frame["defense"] == "none")]
    mean = sem[sem["rho_a"] == "4/255"]["test_accuracy"].mean()
    assert dict(zip(rows(page), column(page, 2), strict=True))["SEM"] == f"{mean:.1f} ± 0.7"


def test_published_figures_have_links_to_their_sources(opened: Opener) -> None:
    note = opened().locator("#published-1 .note")
    assert "arxiv.org" not in note.inner_text()
    note.get_by_text("Sources").click()
    found = [link.get_attribute("href") for link in note.get_by_role("link").all()]
    assert "https://arxiv.org/abs/2605.01718" in found
    assert found == [link.inner_text() for link in note.get_by_role("link").all()]


def test_a_heading_sorts_upwards_downwards_and_back(opened: Opener) -> None:
    page = opened()
    before = rows(page)
    heading = page.locator("#main-1 thead th").nth(1)
    for way in ("ascending", "descending", "none"):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == way
        numbers = [float(text.split()[0]) for text in column(page, 1)]
        if way != "none":
            assert numbers == sorted(numbers, reverse=way == "descending")
    assert rows(page) == before
    page.locator("#main-1 thead button").first.click()
    assert rows(page) == sorted(before, key=str.lower)


def test_an_entry_that_is_missing_is_last_in_both_orders(opened: Opener) -> None:
    page = opened()
    jpeg = page.locator("#defenses-1 thead th").filter(has_text="JPEG")
    number = headings(page, "defenses-1").index("JPEG")
    for _ in range(2):
        jpeg.get_by_role("button").click()
        texts = column(page, number, "defenses-1")
        assert texts[:2] == [text for text in texts if text]
        assert texts[2:] == ["", ""]


def test_filters_leave_rows_and_columns_as_they_are(opened: Opener) -> None:
    page = opened()
    whole = dict(zip(rows(page), column(page, 2), strict=True))
    page.get_by_role("checkbox", name="SEM", exact=True).check()
    page.get_by_role("checkbox", name="REM", exact=True).check()
    page.get_by_role("checkbox", name="4/255", exact=True).check()
    assert rows(page) == ["SEM", "REM"]
    assert headings(page) == ["Method", f"{RHO_A} 4/255"]
    assert column(page, 2) == [whole["SEM"], whole["REM"]]
    assert page.locator("#report-defenses #defenses-1").is_hidden()
    assert "5 of 61 cells" in page.get_by_role("status").inner_text()
    assert set(column(page, 2, "cells")) == {"4/255"}
    page.get_by_role("button", name="Clear filters").click()
    assert dict(zip(rows(page), column(page, 2), strict=True)) == whole


def test_an_entry_of_several_seeds_is_never_shown_for_one_of_them(opened: Opener) -> None:
    page = opened()
    page.get_by_role("textbox", name="Seeds").fill("1")
    assert page.locator("#main-1").is_hidden()
    assert "30 of 61 cells" in page.get_by_role("status").inner_text()
    page.get_by_role("textbox", name="Seeds").fill("0-1")
    assert page.locator("#main-1").is_visible()
    page.get_by_role("textbox", name="Seeds").fill("one")
    assert page.get_by_role("textbox", name="Seeds").get_attribute("aria-invalid") == "true"
    assert len(rows(page)) == 8


def test_a_search_needs_all_its_words(opened: Opener) -> None:
    page = opened()
    page.get_by_label("Search").fill("sem JPEG")
    assert rows(page, "cells") == ["SEM", "SEM"]
    page.get_by_label("Search").fill("out of memory")
    assert column(page, 5, "cells") == ["failed"]
    page.get_by_label("Search").fill("no such thing")
    assert rows(page, "cells") == []


def test_an_entry_opens_its_records(opened: Opener, frame: pd.DataFrame) -> None:
    page = opened()
    page.locator("#main-1").get_by_role("button", name="SEM, rho_a 4/255: ").click()
    text = panel(page).inner_text()
    found = of(frame, attack="sem", rho_a="4/255", defense="none")
    assert len(found) == 2
    page.locator("dialog details.record").nth(1).locator("summary").first.click()
    for number, record in enumerate(found):
        account = page.locator("dialog details.record").nth(number)
        for details in account.locator("details").all():
            details.locator("summary").click()
        text = " ".join(account.inner_text().split())
        environment = record["environment"]
        packed = int(record["packed"])
        shared = f", shared by {packed} cells" if packed > 1 else ""
        for value in (
            f"Final test accuracy {record['test_accuracy']} %",
            f"Peak test accuracy {record['peak_accuracy']} %",
            f"On the poisoned training images {record['train_accuracy']} %",
            f"Noise generation {record['generation_seconds']:.2f} s",
            f"Training {record['training_seconds']:.2f} s",
            f"Device {record['device']}{shared} Peak memory ",
            f"Key of the poison {record['poison']}",
            f"File {record['folder']}/cells/{record['key']}.json",
            "Git revision not recorded",
            f"packages.torch {environment['packages']['torch']}",
            f"driver {environment['driver']}",
            "poison.attack.options.rho_u 8/255",
            f"Finished {record['created']}",
            ", ".join(f"{one:g}" for one in record["epoch_accuracy"]),
            command_of(record),
        ):
            assert value in text


def test_the_command_is_copied_as_one_line(opened: Opener, frame: pd.DataFrame) -> None:
    (record,) = of(frame, attack="em", defense="cutout", seed=1)
    page = opened(f"open={record['key']}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command_of(record)
    assert panel(page).locator("pre").text_content() == command_of(record)


def test_a_cell_that_failed_says_why(opened: Opener) -> None:
    page = opened()
    page.get_by_role("button", name="failed").click()
    text = panel(page).inner_text()
    assert f"This cell failed. {FAILURE}" in text
    assert "--methods sem --rho-u 8/255 --rho-a 4/255 --defenses mixup" in text


def test_the_table_of_all_cells_has_every_record(opened: Opener, frame: pd.DataFrame) -> None:
    page = opened("sort=cells:test_accuracy:down")
    accuracies = sorted(frame["test_accuracy"].dropna(), reverse=True)
    place = headings(page, "cells").index("Final (%)")
    assert column(page, place, "cells") == [*(f"{one:.2f}" for one in accuracies), "failed"]


def test_an_address_shows_the_same_again(opened: Opener) -> None:
    page = opened()
    page.get_by_role("checkbox", name="SEM", exact=True).check()
    page.get_by_role("checkbox", name="EM", exact=True).check()
    page.get_by_role("textbox", name="Seeds").fill("0-4")
    page.get_by_label("Search").fill("resnet & é")
    page.get_by_label("Search").fill("ResNet")
    page.locator("#defenses-1 thead button").nth(3).click(click_count=2)
    page.get_by_role("button", name="Dark theme").click()
    page.locator("#defenses-1").get_by_role("button", name="SEM, JPEG: ").click()
    address = page.url.partition("#")[2]
    again = opened(address)
    for each in (page, again):
        assert each.locator("html").get_attribute("data-theme") == "dark"
        assert rows(each, "defenses-1") == ["SEM", "EM"]
        assert each.locator("#defenses-1 [aria-sort=descending]").inner_text() == "JPEG"
        assert each.locator("#seeds").input_value() == "0-4"
        assert each.locator("#query").input_value() == "ResNet"
        assert panel(each).get_by_role("heading", level=2).inner_text() == "SEM, JPEG"
    assert again.url.partition("#")[2] == address
    assert panel(again).inner_text() == panel(page).inner_text()


def test_an_address_of_another_page_is_read_as_far_as_it_fits(opened: Opener) -> None:
    page = opened("method=gone&rho_a=4/255&sort=gone:1:up&sort=main-1&open=main-1/99/0&theme=pink")
    assert headings(page) == ["Method", f"{RHO_A} 4/255"]
    assert panel(page).is_hidden()
    page.evaluate("location.hash = 'method=sem'")
    page.wait_for_function("document.querySelectorAll('#main-1 tbody tr').length === 1")
    assert rows(page) == ["SEM"]


def test_downloads_hold_what_is_shown(opened: Opener, frame: pd.DataFrame) -> None:
    page = opened("method=sem&method=rem&rho_a=4/255&defense=none&sort=main-1:2:down")
    lines = list(csv.reader(downloaded(page, "Download CSV of main-1").splitlines()))
    assert lines[0] == ["Method", "rho_a 4/255", "rho_a 4/255 std", "rho_a 4/255 seeds"]
    assert [line[0] for line in lines[1:]] == ["REM", "SEM"]
    found = of(frame, attack="sem", rho_a="4/255", defense="none")
    mean = sum(record["test_accuracy"] for record in found) / 2
    assert float(lines[2][1]) == pytest.approx(mean)
    assert lines[2][3] == "2"
    objects = json.loads(downloaded(page, "Download JSON of main-1"))
    assert [(one["row"], one["column"]) for one in objects] == [
        ("REM", "rho_a 4/255"),
        ("SEM", "rho_a 4/255"),
    ]
    assert objects[1]["mean"] == pytest.approx(mean)
    assert objects[1]["keys"] == [record["key"] for record in found]
    cells = json.loads(downloaded(page, "Download JSON of cells"))
    assert {one["key"] for one in cells} == {*objects[0]["keys"], *objects[1]["keys"]}
    for one in cells:
        (record,) = of(frame, key=one["key"])
        assert one["epoch_accuracy"] == record["epoch_accuracy"]
        assert one["setting"] == json.loads(record["setting"])
        assert one["linf"] is None
    table = list(csv.DictReader(downloaded(page, "Download CSV of cells").splitlines()))
    assert [float(line["test_accuracy"]) for line in table] == [
        one["test_accuracy"] for one in cells
    ]


def test_the_data_of_a_figure_lead_back_to_records(opened: Opener, frame: pd.DataFrame) -> None:
    page = opened()
    text = downloaded(page, "Download the data of radius-curves")
    data = radius_curves_data(frame)
    lines = list(csv.DictReader(text.splitlines()))
    assert [line["keys"].split() for line in lines] == [keys.split() for keys in data["keys"]]
    assert [float(line["mean"]) for line in lines] == pytest.approx(data["mean"].tolist())


def test_every_figure_is_drawn_and_has_a_text(opened: Opener) -> None:
    page = opened()
    images = page.locator("figure img")
    assert images.count() >= 3
    for image in images.all():
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        assert (image.get_attribute("alt") or "").endswith(" downloads its numbers.")
    assert "images: " in page.locator("#left-out").inner_text()

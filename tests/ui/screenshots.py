"""The README's pictures: every page of a workspace that has a finished demo run, light and dark, wide and narrow.

    make screenshots        after make demo; writes assets/screenshots/PAGE-THEME-WIDTH.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from engine.workspace import ASSETS, Workspace
from studio.pages import PAGES
from studio.serve import free_port, serve

FLAGS = ("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync").split()
SETTLE_MILLISECONDS, PATIENCE_MILLISECONDS = 4000, 120_000


# A picture for the README shows the default workspace, not a folder of the machine that it was taken on.
SAY_HOME = """path => {
  const walk = node => {
    for (const each of node.childNodes) {
      // Only where it stands: a style sheet that is written to is read anew, and loses its rules.
      if (each.nodeType !== Node.TEXT_NODE) walk(each)
      else if (each.data.includes(path)) each.data = each.data.replaceAll(path, '~/training-studio')
    }
    if (node.shadowRoot) walk(node.shadowRoot)
  }
  walk(document.body)
}"""


def shoot(page: Page, address: str, noun: str, run: str, workspace: Workspace, path: Path) -> None:
    """One page, as it looks once its figures are drawn."""
    page.goto(f"{address}/?page={noun}&run={run}&bundle={run}")
    page.get_by_role("button", name="Help").wait_for()
    page.locator("#loader").wait_for(state="hidden")
    page.wait_for_timeout(SETTLE_MILLISECONDS)
    if noun == "corpus":    # its steps, tried
        page.get_by_text("trying it on the sample").wait_for(state="hidden")
        page.get_by_role("heading", name="Steps", exact=True).evaluate(
            "heading => { heading.style.scrollMarginTop = '48px'; heading.scrollIntoView() }")
        page.wait_for_timeout(SETTLE_MILLISECONDS // 4)
    if noun == "inference":
        page.get_by_role("button", name="Generate").click()
        page.wait_for_timeout(SETTLE_MILLISECONDS)
    page.evaluate(SAY_HOME, str(workspace.path))
    page.screenshot(path=path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace")
    parser.add_argument("--run", default="demo")
    parser.add_argument("--pages", nargs="*", default=[page.noun for page in PAGES])
    parser.add_argument("--out", type=Path, default=ASSETS / "screenshots")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(asked.workspace)
    port = free_port(0, "127.0.0.1")
    studio = serve(workspace, port=port, open_browser=False, threaded=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for theme in ("light", "dark"):
            (workspace.path / "studio.json").write_text('{"dark": %s}' % ("true" if theme == "dark" else "false"))
            for width in (1440, 1024):
                page = chromium.new_page(viewport={"width": width, "height": 900})
                page.set_default_timeout(PATIENCE_MILLISECONDS)
                for noun in asked.pages:
                    path = asked.out / f"{noun}-{theme}-{width}.png"
                    shoot(page, f"http://127.0.0.1:{port}", noun, asked.run, workspace, path)
                page.close()
        chromium.close()
    studio.stop()


if __name__ == "__main__":
    main()

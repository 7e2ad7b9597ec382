"""The studio as an app: `studio app` and `panel serve app.py` show the same.

The workspace is the one that STUDIO_WORKSPACE names, else ~/training-studio.
"""

from __future__ import annotations

from studio.serve import create, serve

if __name__ == "__main__":
    serve()
elif __name__.startswith("bokeh_app"):
    create().servable()

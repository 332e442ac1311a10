"""Paths in a job that each site fills in: `$FEDERATED_DIR/$SITE/data`."""

from __future__ import annotations

import os
from string import Template


def site_path(path: str, *, site: str, app_root: str = "") -> str:
    """
    A path of a job on this site's machine.

    Args:
        path: may hold `$SITE`, `$APP_ROOT` and variables of the site's environment.
        site: the site's name, for `$SITE`.
        app_root: where the federated system unpacked the job, for `$APP_ROOT`.

    Raises:
        ValueError: when a variable is not set, or `site` is no name of a folder.

    Example:
        >>> site_path("/hospitals/$SITE/data", site="site-1")
        '/hospitals/site-1/data'
    """
    if site != os.path.basename(site) or site in ("", ".", ".."):
        raise ValueError(f"`site` must be a name that a folder can have, got {site!r}.")
    try:
        return Template(path).substitute({**os.environ, "SITE": site, "APP_ROOT": app_root})
    except KeyError as error:
        raise ValueError(
            f"{path!r} needs the environment variable {error.args[0]!r}, which is not set on {site!r}: export it before"
            " the client is started (docs/federated.md)."
        ) from None

"""The application as MONAI Deploy's packager starts it: `python APP`, beside `common`. RESEARCH USE ONLY."""

from __future__ import annotations

from common.deploy.monai_deploy.__main__ import main

if __name__ == "__main__":
    main()

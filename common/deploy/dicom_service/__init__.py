"""A DICOM service: a series comes in by C-STORE, the derived series goes out to the archive. See `docs/pacs.md`.

`settings` reads the rule file, `listener` receives, `journal` remembers, `worker` translates, `sending` sends.
"""

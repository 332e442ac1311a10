"""An app for MONAI Label that serves the bundles: translated volumes over HTTP, and training from the server.

`python -m common.deploy.monailabel APP BUNDLE...` creates its folder, see docs/monai_label.md. The modules `app`,
`datastore`, `infer_task` and `train_task` import MONAI Label, which has an environment of its own
(`environments/label.sh`); the others need what the bundles need.
"""

"""MONAI Deploy: a DICOM folder in, a derived DICOM series out, for each bundle. See `docs/monai_deploy.md`.

`common.inference.dicom_series` runs a bundle and needs no SDK; `operators` and `app` need `monai-deploy-app-sdk`.
"""

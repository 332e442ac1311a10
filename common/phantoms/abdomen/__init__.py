"""The abdomen phantom: anatomy before and after contrast, with breathing motion between the scans."""

"""The page of a run: `report.html`, in one file that opens offline, and its charts as pictures."""

"""The photo library in the browser, and the same over HTTP for programs: FastAPI over
`iaa.library.gallery`."""

// The app before its build: there is no index.html.

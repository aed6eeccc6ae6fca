package config

// Log says what is logged to standard error. Security acts (logins, logouts, refused refreshes) are always logged;
// a secret never is.
type Log struct {
	// Which requests get a line: `all`, `errors` (status 500 and above, and every answer with a problem code) or
	// `none`.
	//
	// Default: `all`
	Requests string `yaml:"requests" words:"all errors none"`

	// `json` for machines or `text` for people.
	//
	// Default: `json`
	Format string `yaml:"format" words:"json text"`
}

func (l Log) withDefaults() Log {
	orDefault(&l.Requests, "all")
	orDefault(&l.Format, "json")
	return l
}

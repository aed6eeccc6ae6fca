package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets tests run this test binary as the command itself, in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("CLOAKROOM_RUN_MAIN") == "1" {
		main()
	}
	testscript.Main(m, map[string]func(){"cloakroom": main})
}

// TestScripts runs the real command by the scripts in testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("GOCOVERDIR", os.Getenv("GOCOVERDIR"))
			return nil
		},
	})
}

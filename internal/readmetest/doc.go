// Package readmetest runs the commands of README.md as they stand there, so that a new user's first minutes are a test.
package readmetest

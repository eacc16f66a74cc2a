//go:build !race

package systemtest

// withRace: the tests were built with the race detector, and so is the server.
const withRace = false

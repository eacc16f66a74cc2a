// Package sqltest runs a real PostgreSQL and a real MariaDB for tests, in a temporary folder, with nothing kept on disk
// longer than the tests.
//
// The programs are those of Debian's packages postgresql and mariadb-server; scripts/databases installs them. Statements
// go through psql and mariadb, the clients that come with them, so that a test judges Cloakroom's drivers by another's.
package sqltest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// patience bounds every wait for a server: it never decides a test on a machine that is merely slow.
	patience = 2 * time.Minute

	admin = "cloakroom"
	// Password is every user's: it holds what an address has to escape, so that a test sees where one is mangled or shown.
	Password = `s3cret:/@?#%& 密'"`
)

// product is what PostgreSQL and MariaDB differ in.
type product interface {
	find() error                                    // the programs
	prepare(s *Server) error                        // the data folder
	command(s *Server) (cmd *exec.Cmd, user string) // that serves, and whose it is when root starts it
	client(s *Server, database string) *exec.Cmd    // that reads statements and writes rows
	rows(output []byte) ([][]string, error)         // that the client wrote
}

// dialect are the statements of an administrator, with %s for the name, and the address.
type dialect struct {
	scheme, query, anywhere                  string // of an address: a database that is always there
	createDatabase, dropDatabase, createUser string
	encoded                                  string // the clause that names a database's character set
}

// Server is a database server. It is started by the first Database.
type Server struct {
	product product
	dialect dialect
	mu      sync.Mutex // guards what follows
	dir     string
	port    int
	process *process
	count   atomic.Int64
}

// Postgres returns a PostgreSQL that is not started yet. Its administrator may do everything.
func Postgres() *Server { return &Server{product: &postgres{}, dialect: postgresDialect()} }

// MariaDB returns a MariaDB that is not started yet. Its administrator may do everything.
func MariaDB() *Server { return &Server{product: &mariadb{}, dialect: mariadbDialect()} }

// Stop ends the server, where it was started, and removes its folder. For the end of TestMain.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.process.stop(syscall.SIGQUIT)
	s.process = nil
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
		s.dir = ""
	}
	return err
}

// Kill ends the server's process by SIGKILL, with whatever it was doing.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.process.stop(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.process = nil
}

// Restart starts the server again after Kill, at the same address. It comes back with every commit.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// start runs a server that was not started yet.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir != "" {
		return nil
	}
	if err := s.product.find(); err != nil {
		return fmt.Errorf("%w; ./scripts/databases installs what these tests need, and ./scripts/test runs it", err)
	}
	dir, err := os.MkdirTemp("", "sqltest-")
	if err != nil {
		return err
	}
	if err := s.setUp(dir); err != nil {
		s.dir = ""
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

func (s *Server) setUp(dir string) (err error) {
	s.dir = dir
	_, user := s.product.command(s)
	if err := give(dir, user); err != nil {
		return err
	}
	if err := s.product.prepare(s); err != nil {
		return err
	}
	if s.port, err = freePort(); err != nil {
		return err
	}
	return s.run()
}

// run starts the process and waits until it lets somebody in. The processes of one that was killed may hold its files
// for a moment: it is tried again.
func (s *Server) run() error {
	end := time.Now().Add(patience)
	for {
		cmd, user := s.product.command(s)
		p, err := start(cmd, user)
		if err != nil {
			return err
		}
		if err = s.answers(p, end); err == nil {
			s.process = p
			return nil
		}
		if err := p.stop(syscall.SIGKILL); err != nil {
			return err
		}
		if time.Now().After(end) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// answers waits until a connection stands.
func (s *Server) answers(p *process, end time.Time) error {
	for {
		_, err := s.say(s.dialect.anywhere, "SELECT 1;")
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("the database ended: %s", p.log.String())
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %v for the database: %w", patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *Server) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// process is a running program.
type process struct {
	cmd    *exec.Cmd
	log    bytes.Buffer // to be read when it has exited
	exited chan struct{}
}

// start runs cmd as user, when that is not "" and we are root, and sees to it that it ends with this process.
func start(cmd *exec.Cmd, user string) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if err := tie(cmd, user); err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		// The parent's death signal is bound to the thread that starts the child: it has to live as long as the process.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ended by a signal
		}
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) stop(how syscall.Signal) error {
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-p.exited
	}
	return nil
}

// finish runs a program that sets something up.
func finish(cmd *exec.Cmd, user string) error {
	p, err := start(cmd, user)
	if err != nil {
		return err
	}
	<-p.exited
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %s: %s", filepath.Base(cmd.Path), p.cmd.ProcessState, p.log.String())
	}
	return nil
}

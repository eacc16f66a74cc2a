package wire

import "time"

// NewService is the body of POST /v1/services.
type NewService struct {
	Name string `json:"name"`
	Role string `json:"role"`
}

// ServiceKey answers the making of a credential: Key is shown this once.
type ServiceKey struct {
	Name string `json:"name"`
	Role string `json:"role"`
	ID   string `json:"id"` // the credential's id, the middle part of the key
	Key  Plain  `json:"key"`
}

// Credential is one key of a service, without its secret.
type Credential struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	Disabled  bool      `json:"disabled"`
}

// Service is one caller.
type Service struct {
	Name      string       `json:"name"`
	Role      string       `json:"role"`
	CreatedAt time.Time    `json:"created_at"`
	Disabled  bool         `json:"disabled"`
	Keys      []Credential `json:"keys"`
}

// ServiceList answers GET /v1/services.
type ServiceList struct {
	Services   []Service `json:"services"`
	NextCursor string    `json:"next_cursor,omitzero"`
}

// KeyStatus answers GET /v1/keys.
type KeyStatus struct {
	Instance        string `json:"instance"`
	KMS             string `json:"kms"`
	Epoch           uint64 `json:"epoch"`
	RootVersion     uint64 `json:"root_version"` // of the KMS root key, wrapping the epoch root
	RootLatest      int    `json:"root_latest"`
	DEKLatest       int    `json:"dek_latest"`
	Buckets         int    `json:"buckets"`
	DirtyBuckets    int    `json:"dirty_buckets"`
	Partitions      int    `json:"partitions"`
	DirtyPartitions int    `json:"dirty_partitions"`
	CachedKeys      int    `json:"cached_keys"`

	LastClose *time.Time `json:"last_close"` // of an epoch; null = none was closed yet
	Move      *KeyMove   `json:"move"`       // null = no keys are being moved
}

// KeyMove is a move of all keys between two key services that has begun and not ended.
type KeyMove struct {
	Job  string `json:"job"`
	From string `json:"from"` // local or transit
	To   string `json:"to"`   // likewise; kms and dek_latest are of this one, root_version and root_latest of where the root is
}

// Policy answers GET /v1/policy.
type Policy struct {
	Version uint64 `json:"version"`
	Policy  string `json:"policy"` // the YAML text as it was applied
}

// Readiness answers GET /readyz.
type Readiness struct {
	Ready  bool             `json:"ready"`
	Checks map[string]Check `json:"checks"` // store, kms, audit, ledger
}

// Check is the state of one part.
type Check struct {
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitzero"`
}

// Health answers GET /healthz: the process is there.
type Health struct {
	OK bool `json:"ok"`
}

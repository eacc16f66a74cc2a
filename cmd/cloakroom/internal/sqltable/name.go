package sqltable

import "context"

// Names returns the names of the database, of the schema and of the table, as the database has them, without quotes. In
// MySQL, where the schema is the database, they are two.
func (t *Table) Names(ctx context.Context) ([]string, error) {
	if _, ok := t.db.engine.(*postgres); !ok {
		return []string{t.found.schema, t.found.table}, nil
	}
	var database string
	err := t.db.use(ctx, func(c conn) error {
		return c.query(ctx, "SELECT current_database()::text", nil, func(scan func(...any) error) error { return scan(&database) })
	})
	if err != nil {
		return nil, loud(err)
	}
	return []string{database, t.found.schema, t.found.table}, nil
}

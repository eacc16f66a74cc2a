package sqltable

import (
	"context"
	"fmt"
	"slices"
)

// look reads PostgreSQL's catalogue.
func (p *postgres) look(ctx context.Context, c conn, spec Spec) (*found, error) {
	f, err := newFound(spec, 63, func(s string) int { return len(s) })
	if err != nil {
		return nil, err
	}
	oid, owner, err := p.lookTable(ctx, c, f)
	if err != nil {
		return nil, err
	}
	if err := p.lookColumns(ctx, c, f, oid); err != nil {
		return nil, err
	}
	if err := p.lookKey(ctx, c, f, oid); err != nil {
		return nil, err
	}
	if err := p.lookFollowers(ctx, c, f, oid); err != nil {
		return nil, err
	}
	var update bool
	err = c.query(ctx, "SELECT has_table_privilege($1::bigint::oid, 'UPDATE')", []any{oid},
		func(scan func(...any) error) error { return scan(&update) })
	if err != nil {
		return nil, err
	}
	f.lacks(owner, update)
	return f, p.notes(ctx, c, f, oid)
}

func (p *postgres) lookTable(ctx context.Context, c conn, f *found) (oid int64, owner bool, err error) {
	name := quotePostgres(f.table)
	if f.schema != "" {
		name = quotePostgres(f.schema) + "." + name
	}
	var kind, persistence, encoding string
	var partition, parent, hidden bool
	err = c.query(ctx, `
		SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition,
		       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid),
		       row_security_active(c.oid), pg_has_role(c.relowner, 'USAGE'), current_setting('server_encoding')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass($1::text)`, []any{name},
		func(scan func(...any) error) error {
			return scan(&oid, &f.schema, &f.table, &kind, &persistence, &partition, &parent, &hidden, &owner, &encoding)
		})
	say := func(why string) error { return fmt.Errorf("%w: %s: %s", ErrTable, name, why) }
	switch {
	case err != nil:
		return 0, false, err
	case oid == 0:
		return 0, false, say("there is no such table (names are taken exactly as written; schema.table where it is in none of the search path)")
	case kind == "v" || kind == "m":
		return 0, false, say("it is a view; name the table that it shows")
	case kind != "r" && kind != "p":
		return 0, false, say("it is not a table of this database")
	case partition:
		return 0, false, say("it is a partition; name the partitioned table")
	case parent:
		return 0, false, say("other tables inherit from it, and the key tells their rows from its own nowhere")
	case hidden:
		return 0, false, say("row level security hides rows from this user; use its owner, or a user with BYPASSRLS")
	}
	if persistence == "t" {
		return 0, false, say("it is a temporary table")
	}
	// What SQL_ASCII holds is handed over as it is, or not at all where it is no UTF-8.
	f.converts = encoding != "UTF8" && encoding != "SQL_ASCII"
	return oid, owner, nil
}

// lookColumns looks at all columns named, through domains at what they are made of.
func (p *postgres) lookColumns(ctx context.Context, c conn, f *found, oid int64) error {
	byName := map[string]*column{f.key.name: &f.key}
	for i := range f.columns {
		byName[f.columns[i].name] = &f.columns[i]
		byName[f.tokens[i].name] = &f.tokens[i]
	}
	domains := map[string]bool{}
	err := c.query(ctx, `
		SELECT a.attname::text, a.attnum::bigint, format_type(a.atttypid, a.atttypmod), a.attnotnull OR d.strict, d.strict,
		       b.typname::text, quote_ident(bn.nspname) || '.' || quote_ident(b.typname),
		       CASE WHEN b.typname IN ('varchar', 'bpchar') THEN GREATEST(d.typmod - 4, 0) ELSE 0 END::bigint,
		       a.attgenerated <> '', a.attidentity <> '',
		       CASE WHEN a.atthasdef THEN COALESCE(pg_get_expr(own.adbin, own.adrelid) !~ '^NULL(::.*)?$', true) ELSE d.dflt END,
		       has_column_privilege(a.attrelid, a.attnum, 'SELECT'), has_column_privilege(a.attrelid, a.attnum, 'UPDATE')
		FROM pg_attribute a
		CROSS JOIN LATERAL (
			WITH RECURSIVE up(oid, base, kind, strict, dflt, typmod) AS (
				SELECT t.oid, t.typbasetype, t.typtype, t.typnotnull, t.typdefault IS NOT NULL, a.atttypmod
				FROM pg_type t WHERE t.oid = a.atttypid
				UNION ALL
				SELECT t.oid, t.typbasetype, t.typtype, t.typnotnull, t.typdefault IS NOT NULL, GREATEST(u.typmod, ut.typtypmod)
				FROM up u JOIN pg_type ut ON ut.oid = u.oid JOIN pg_type t ON t.oid = u.base WHERE u.kind = 'd'
			) SELECT bool_or(strict) AS strict, bool_or(dflt) AS dflt, max(typmod) AS typmod,
			         max(oid::bigint) FILTER (WHERE kind <> 'd') AS base FROM up
		) d
		JOIN pg_type b ON b.oid::bigint = d.base JOIN pg_namespace bn ON bn.oid = b.typnamespace
		LEFT JOIN pg_attrdef own ON own.adrelid = a.attrelid AND own.adnum = a.attnum
		WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped`, []any{oid},
		func(scan func(...any) error) error {
			var x column
			var strict bool
			var base string
			if err := scan(&x.name, &x.number, &x.typ, &x.notNull, &strict, &base, &x.cast, &x.length,
				&x.computed, &x.numbered, &x.dflt, &x.sel, &x.upd); err != nil {
				return err
			}
			into, ok := byName[x.name]
			if !ok {
				return nil
			}
			switch x.exists = true; base {
			case "int2", "int4", "int8":
				x.kind = integer
			case "text", "varchar", "bpchar", "citext":
				x.kind = text
			case "uuid":
				x.kind = uuid
			}
			domains[x.name] = strict
			*into = x
			return nil
		})
	if err != nil {
		return err
	}
	for _, x := range f.columns {
		if domains[x.name] {
			return fmt.Errorf("%w: %s is of a type that is never NULL; give it another type first", ErrColumn, x.name)
		}
	}
	return nil
}

// lookKey looks for an index that finds a row by the key and has the rows in the key's order.
func (p *postgres) lookKey(ctx context.Context, c conn, f *found, oid int64) error {
	err := c.query(ctx, `
		SELECT i.indexrelid::regclass::text
		FROM pg_index i JOIN pg_opclass o ON o.oid = i.indclass[0]
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
		WHERE i.indrelid = $1::bigint::oid AND a.attnum = $2::bigint AND i.indisunique AND i.indisvalid AND i.indisready
		  AND i.indpred IS NULL AND i.indnkeyatts = 1 AND o.opcdefault AND i.indcollation[0] = a.attcollation
		ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1`, []any{oid, f.key.number},
		func(scan func(...any) error) error { return scan(&f.index) })
	if err != nil {
		return err
	}
	for _, x := range f.columns {
		var primary bool
		err := c.query(ctx, `
			SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = $1::bigint::oid AND contype = 'p' AND $2::smallint = ANY(conkey))`,
			[]any{oid, x.number}, func(scan func(...any) error) error { return scan(&primary) })
		if err != nil {
			return err
		}
		if primary {
			return fmt.Errorf("%w: %s is part of the primary key, which is never NULL", ErrColumn, x.name)
		}
	}
	return nil
}

// lookFollowers refuses columns whose changes a foreign key carries into other rows.
func (p *postgres) lookFollowers(ctx context.Context, c conn, f *found, oid int64) error {
	return c.query(ctx, `
		SELECT con.conname::text, con.conrelid::regclass::text, a.attname::text,
		       CASE con.confupdtype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END
		FROM pg_constraint con JOIN pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = ANY(con.confkey)
		WHERE con.contype = 'f' AND con.confrelid = $1::bigint::oid AND con.confupdtype NOT IN ('a', 'r')
		  AND a.attnum = ANY($2::bigint[])
		ORDER BY 2, 1`, []any{oid, f.numbers()},
		func(scan func(...any) error) error {
			var constraint, table, column, rule string
			if err := scan(&constraint, &table, &column, &rule); err != nil {
				return err
			}
			return follows(constraint, table, column, rule)
		})
}

// numbers are those of the mapped columns.
func (f *found) numbers() []int64 {
	numbers := make([]int64, len(f.columns))
	for i, x := range f.columns {
		numbers[i] = x.number
	}
	return numbers
}

// notes tells what the catalogue knows to hang on the table and on the columns.
func (p *postgres) notes(ctx context.Context, c conn, f *found, oid int64) error {
	err := c.query(ctx, `
		WITH col AS (
			SELECT attrelid AS rel, attnum AS num, attname::text AS name FROM pg_attribute
			WHERE attrelid = $1::bigint::oid AND attnum = ANY($2::bigint[])
		), dep AS (
			SELECT d.classid, d.objid, d.objsubid, col.* FROM pg_depend d JOIN col ON d.refobjid = rel AND d.refobjsubid = num
			WHERE d.refclassid = 'pg_class'::regclass
		)
		SELECT 'trigger ' || tgname || ' runs on this table: what it does with the values is not seen'
		FROM pg_trigger WHERE tgrelid = $1::bigint::oid AND NOT tgisinternal AND tgenabled <> 'D'
		UNION SELECT 'rule ' || r.rulename || ' rewrites statements on this table' FROM pg_rewrite r
		WHERE r.ev_class = $1::bigint::oid AND r.ev_enabled <> 'D'
		UNION SELECT 'index ' || c.relname || ' uses column ' || name || ': it will hold NULL in place of values'
		FROM dep JOIN pg_class c ON c.oid = objid AND c.relkind IN ('i', 'I') WHERE classid = 'pg_class'::regclass
		UNION SELECT CASE con.contype WHEN 'u' THEN 'unique constraint ' WHEN 'f' THEN 'foreign key ' WHEN 'x' THEN 'exclusion constraint '
			ELSE 'check constraint ' END || con.conname || ' uses column ' || name || ': it will see NULL in place of values'
		FROM pg_constraint con JOIN col ON con.conrelid = rel AND num = ANY(con.conkey) WHERE con.contype IN ('c', 'f', 'u', 'x')
		UNION SELECT 'foreign key ' || con.conname || ' of table ' || con.conrelid::regclass::text || ' refers to column ' || name
			|| ': rows that it refers to cannot be cut over'
		FROM pg_constraint con JOIN col ON con.confrelid = rel AND num = ANY(con.confkey) WHERE con.contype = 'f'
		UNION SELECT 'view ' || r.ev_class::regclass::text || ' shows column ' || name || ': it will show NULL'
		FROM dep JOIN pg_rewrite r ON r.oid = objid WHERE classid = 'pg_rewrite'::regclass AND r.ev_class <> rel
		UNION SELECT 'column ' || a.attname || ' is generated from column ' || name || ': it will be made from NULL'
		FROM dep JOIN pg_attrdef x ON x.oid = objid JOIN pg_attribute a ON a.attrelid = x.adrelid AND a.attnum = x.adnum
		WHERE classid = 'pg_attrdef'::regclass AND a.attnum <> num
		UNION SELECT 'column ' || a.attname || ' is generated from column ' || name || ': it will be made from NULL'
		FROM dep JOIN pg_attribute a ON a.attrelid = objid AND a.attnum = objsubid
		WHERE classid = 'pg_class'::regclass AND objid = rel AND objsubid > 0 AND a.attgenerated <> '' AND a.attnum <> num
		UNION SELECT 'publication ' || p.pubname || ' sends each change to its subscribers, who keep their copies of the values'
		FROM pg_publication_tables p WHERE p.schemaname = $3::text AND p.tablename = $4::text
		ORDER BY 1`, []any{oid, f.numbers(), f.schema, f.table},
		func(scan func(...any) error) error {
			var note string
			err := scan(&note)
			f.notes = append(f.notes, note)
			return err
		})
	f.notes = slices.Compact(f.notes)
	return err
}

package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

// A shop keeps the token of a phone number and asks for the number when it has to call.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(answer))
	defer server.Close()
	ctx := context.Background()

	c, err := client.New(client.Options{Addr: server.URL, Key: "ck_example_key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	stored, err := c.PutSubject(ctx, "u1", wire.PutSubject{
		Fields: map[string]wire.FieldValue{"phone": {Value: "138 0013 8000"}},
	}, client.IdempotencyKey("registration-u1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	token := stored.Tokens["phone"]
	fmt.Println("stored in the order table:", string(token))
	fmt.Println("printed by mistake:", token)

	items, err := c.Detokenize(ctx, wire.Detokenize{Purpose: "service", Reason: "order 77", Tokens: []wire.Plain{token}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, item := range items {
		if item.Error != nil {
			fmt.Println("no value:", item.Error.Code)
			continue
		}
		fmt.Println("call:", string(*item.Value))
	}
	// Output:
	// stored in the order table: tok_phone_example
	// printed by mistake: [redacted]
	// call: 138 0013 8000
}

// answer stands for the server in this example.
func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/v1/subjects/u1":
		_, _ = io.WriteString(w, `{"subject":"u1","created":true,"tokens":{"phone":"tok_phone_example"}}`)
	case "/v1/detokenize":
		_, _ = io.WriteString(w, `{"items":[{"token":"tok_phone_example","field":"phone","value":"138 0013 8000","view":"full"}]}`)
	}
}

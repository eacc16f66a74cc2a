package api

import (
	"context"
	"net/http"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (s *service) addService(ctx context.Context, call vault.Call, _ params, req *wire.NewService) (int, wire.ServiceKey, error) {
	made, err := s.vault.AddService(ctx, call, req.Name, req.Role)
	return http.StatusCreated, serviceKey(made), err
}

func (s *service) addKey(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.ServiceKey, error) {
	made, err := s.vault.AddKey(ctx, call, p.path("name"))
	return http.StatusCreated, serviceKey(made), err
}

func serviceKey(c vault.NewCredential) wire.ServiceKey {
	return wire.ServiceKey{Name: c.Service, Role: c.Role, ID: c.ID, Key: wire.Plain(c.Key.Reveal())}
}

func (s *service) disableKey(ctx context.Context, call vault.Call, p params, _ *nothing) (int, nothing, error) {
	return http.StatusNoContent, nothing{}, s.vault.DisableKey(ctx, call, p.path("name"), p.path("id"))
}

func (s *service) disableService(ctx context.Context, call vault.Call, p params, _ *nothing) (int, nothing, error) {
	return http.StatusNoContent, nothing{}, s.vault.DisableService(ctx, call, p.path("name"))
}

func (s *service) listServices(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.ServiceList, error) {
	page, err := p.page()
	if err != nil {
		return 0, wire.ServiceList{}, err
	}
	services, next, err := s.vault.Services(ctx, call, page)
	if err != nil {
		return 0, wire.ServiceList{}, err
	}
	out := wire.ServiceList{Services: make([]wire.Service, len(services)), NextCursor: next}
	for i, v := range services {
		keys := make([]wire.Credential, len(v.Keys))
		for j, k := range v.Keys {
			keys[j] = wire.Credential{ID: k.ID, CreatedAt: k.Created, Disabled: k.Disabled}
		}
		out.Services[i] = wire.Service{Name: v.Name, Role: v.Role, CreatedAt: v.Created, Disabled: v.Disabled, Keys: keys}
	}
	return http.StatusOK, out, nil
}

package config

import "errors"

// Load reads and checks the file at path. When the file can be read and says something wrong, the error is an
// Errors; otherwise it wraps that of the operating system.
func Load(path string) (*Config, error) {
	return nil, errors.New("config: not implemented")
}

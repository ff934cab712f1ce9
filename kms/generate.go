package kms

//go:generate go run ../awsapi/generate -model api.json -package kms -out api_gen.go -test api_gen_test.go

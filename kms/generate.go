package kms

// api.json is AWS's model, but for one number: RotationPeriodInDays may be less than 90 where the server's
// setting allows it, so EnableKeyRotation checks that itself.

//go:generate go run ../awsapi/generate -model api.json -package kms -out api_gen.go -test api_gen_test.go

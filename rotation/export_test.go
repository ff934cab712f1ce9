package rotation

// DueQuery is the one query of a tick that finds nothing due.
const DueQuery = dueQuery

// EngineQueries are the reads whose cost must not grow with a lineage's history.
var EngineQueries = map[string]string{
	"due": dueQuery, "related": generationsQuery + relatedWhere, "open": openQuery, "begun": begunQuery,
	"lineage": lineageQuery, "deactivated": deactivatedQuery + `g.key_arn = $1`, "policies": policiesQuery,
	"deactivated kin": deactivatedQuery + ofKin, "follows": followsQuery, "home": homeQuery,
}

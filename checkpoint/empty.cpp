namespace filo {}

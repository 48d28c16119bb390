"""Paths of the catalog under /api/v1."""

from django.urls import path

from apps.catalog.api.views import CategoryList, ProductDetail, ProductList

urlpatterns = [
    path("categories", CategoryList.as_view()),
    path("products", ProductList.as_view()),
    path("products/<str:product_id>", ProductDetail.as_view()),
]
